"""Settings of a judge, its template, and how answers are read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.envs import Problem
from rllib_dapo.envs.judge.answer_cache import AnswerCache
from rllib_dapo.envs.judge.answer_parser import AnswerParser
from rllib_dapo.envs.judge.judge_settings import check_judge_settings
from rllib_dapo.envs.judge.judge_template import JudgeTemplate
from rllib_dapo.envs.judge.limits_share import share_limits, share_of, share_of_count

GOOD = {"url": "http://h:1/v1", "model": "m", "template": "{response}", "parser": "(.*)"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"url": None}, r"^judge\.url=None: must be an address such as"),
        ({"url": "localhost:8000"}, r"^judge\.url='localhost:8000': must be an address"),
        ({"url": "http://me:pw@h/v1"}, r"^judge\.url: must not hold a user, a password"),
        ({"model": ""}, r"^judge\.model='': must be a text"),
        ({"template": "rate it"}, r"^judge\.template='rate it': must be a text with the field"),
        ({"template": "{{response}}"}, r"^judge\.template=.*must be a text with the field"),
        ({"parser": None}, r"^judge\.parser=None: must be a regular expression with one group"),
        ({"parser": "[0-9]+"}, r"^judge\.parser=.*; it has 0 groups"),
        ({"parser": "("}, r"^judge\.parser='\(': must be a regular expression"),
        ({"parser": {True: 1}}, r"^judge\.parser=\{True: 1\}: must be"),
        ({"parser": {"yes": "1"}}, r"^judge\.parser="),
        ({"range": [3, 1]}, r"^judge\.range=\[3, 1\]: must be two numbers"),
        ({"concurrency": 0}, r"^judge\.concurrency=0: must be"),
        ({"timeout": 0}, r"^judge\.timeout=0: must be a number above 0"),
        ({"retries": -1}, r"^judge\.retries=-1: must be"),
        ({"tokens_per_minute": 0}, r"^judge\.tokens_per_minute=0: must be a number above 0"),
        ({"timout": 5}, r"^judge: unknown setting 'timout'.*did you mean 'timeout'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check_judge_settings("judge", {**GOOD, **given})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["sk-abc123", "NOT_SET_ANYWHERE", "", 5])
def test_a_key_in_place_of_its_variables_name_is_refused_and_not_shown(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^judge\.api_key_variable: must be the name") as caught:
        check_judge_settings("judge", {**GOOD, "api_key_variable": value})
    assert not value or str(value) not in str(caught.value)


@pytest.mark.parametrize(
    ("parser", "bounds", "answer", "number"),
    [
        (r"Score: ([\d.]+)", None, "Score: 3. No, Score: 4.5", 4.5),
        (r"Score: (\S+)", None, "Score: many", None),
        (r"Score: (\S+)", None, "Score: 1e999", None),
        (r"Score: (\S+)", [0, 10], "Score: 11", None),
        (r"Score: (\S+)", [0, 10], "Score: 10", 10.0),
        (r"(\d+)?!", None, "!", None),
        ({"good": 1, "bad": -1}, None, "Not bad. GOOD!", 1.0),
        ({"good": 1, "not good": 0}, None, "It is not good", 0.0),
        ({"good": 1, "bad": -1}, None, "badly goodish", None),
        ({"5/10": 0.5}, None, "5/10", 0.5),
    ],
)
def test_the_last_number_or_word_counts(
    parser: Any, bounds: Any, answer: str, number: float | None
) -> None:
    assert AnswerParser.of("parser", parser, bounds).read(answer) == number


def test_a_template_writes_columns_that_are_no_texts_as_json_and_missing_ones_as_nothing() -> None:
    problem = Problem(
        prompt="P", answer="{response}", problem_id="p", columns={"a": {"b": [1, "ü"]}, "n": None}
    )
    template = JudgeTemplate("{problem}|{answer}|{a}|{a.b}|{n}|{x}|{{y}}|{response}")
    assert template.fill(problem, "{a}") == ('P|{response}|{"b": [1, "ü"]}|[1, "ü"]|||{y}|{a}')
    assert template.columns == ["a", "a.b", "n", "x"]


def test_the_oldest_answers_are_forgotten(tmp_path: Path) -> None:
    file = str(tmp_path / "cache")
    cache = AnswerCache(3, file)
    for n in range(5):
        cache.put(str(n), f"answer {n}")
    assert [cache.get(str(n)) for n in range(5)] == [None, None, "answer 2", "answer 3", "answer 4"]
    beside = AnswerCache(3, file)
    assert beside.get("4") == "answer 4"
    beside.close()
    cache.close()


def test_a_file_that_is_no_cache_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("my own text, which is long enough to be no empty data base" * 20)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"^cache_file='.*mine.txt': cannot be used"):
        AnswerCache(3, str(path))
    assert path.read_bytes() == before


def test_a_cache_whose_file_goes_away_costs_no_verdict(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = AnswerCache(3, str(tmp_path / "cache"))
    cache.close()
    cache.put("a", "b")
    assert cache.get("a") is None
    assert caplog.text.count("cannot be used") == 1


def test_env_runners_share_the_limits_of_a_run() -> None:
    share_limits(4)
    try:
        assert (share_of(100), share_of(None)) == (25, None)
        assert (share_of_count(64), share_of_count(3)) == (16, 1)
    finally:
        share_limits(0)
    assert share_of(100) == 100
    assert not math.isnan(share_of(1.0) or math.nan)
