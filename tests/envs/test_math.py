import json
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from rllib_dapo.envs.math import DAPO_TEMPLATE, MathEnv, fill_template, unwrap


@pytest.fixture
def sums(tmp_path: Path) -> str:
    """A file with 200 problems."""
    path = tmp_path / "sums.jsonl"
    path.write_text(
        "".join(
            json.dumps({"question": f"{i}+{i}?", "answer": str(2 * i)}) + "\n" for i in range(200)
        )
    )
    return str(path)


def prompts(env: MathEnv, seeds: Iterable[int]) -> list[str]:
    return [env.reset(seed=seed)[0] for seed in seeds]


def test_it_passes_gymnasiums_checks(sums: str) -> None:
    check_env(gymnasium.make("rllib_dapo/Math-v0", path=sums).unwrapped)


def test_an_episode_ends_with_plus_or_minus_one(sums: str) -> None:
    env = MathEnv({"path": sums})
    prompt, info = env.reset(seed=0)
    assert info["problem_id"].startswith("sums/")
    assert prompt == DAPO_TEMPLATE.format(
        problem=f"{int(info['answer']) // 2}+{int(info['answer']) // 2}?"
    )
    assert env.step(f"Thinking.\nAnswer: {info['answer']}")[1] == 1.0
    env.reset(seed=0)
    assert env.step("Answer: none")[1] == -1.0


def test_every_epoch_asks_every_problem_once_in_another_order(sums: str) -> None:
    env = MathEnv({"path": sums})
    first, second = prompts(env, range(200)), prompts(env, range(200, 400))
    assert len(set(first)) == 200
    assert set(first) == set(second)
    assert first != second


def test_the_problem_of_a_seed_is_the_same_whatever_came_before(sums: str) -> None:
    env = MathEnv({"path": sums})
    forward = prompts(env, range(500))
    assert prompts(env, reversed(range(500))) == forward[::-1]
    assert prompts(pickle.loads(pickle.dumps(env)), range(500)) == forward
    assert prompts(MathEnv({"path": sums}), range(500)) == forward
    assert prompts(MathEnv({"path": sums, "seed": 1}), range(500)) != forward


def test_train_and_heldout_share_out_all_problems_whatever_the_seeds(sums: str) -> None:
    def ids(**settings: Any) -> set[str]:
        return {
            p.problem_id for p in MathEnv({"path": sums}, heldout_fraction=0.3, **settings).problems
        }

    train, heldout = ids(split="train", seed=1), ids(split="heldout", seed=2)
    assert not train & heldout
    assert train | heldout == ids(split="all")
    assert 30 < len(heldout) < 90


def test_a_wrapped_and_a_bare_copy_of_a_problem_share_a_split(tmp_path: Path, sums: str) -> None:
    path = tmp_path / "wrapped.jsonl"
    wrapped = (
        {"question": DAPO_TEMPLATE.format(problem=f"{i}+{i}?"), "answer": str(2 * i)}
        for i in range(200)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in wrapped))
    bare_env, wrapped_env = (MathEnv({"path": str(p)}, split="heldout") for p in (sums, path))
    assert [p.answer for p in bare_env.problems] == [p.answer for p in wrapped_env.problems]
    assert prompts(bare_env, range(10)) == prompts(wrapped_env, range(10))


def test_a_limit_takes_the_first_problems_of_the_split(sums: str) -> None:
    all_train = MathEnv({"path": sums}, split="train").problems
    assert MathEnv({"path": sums}, split="train", limit=5).problems == all_train[:5]
    assert MathEnv({"path": sums}, limit=10_000).problems == MathEnv({"path": sums}).problems


def test_the_recipes_wording_is_exchanged_and_never_doubled() -> None:
    wrapped = DAPO_TEMPLATE.format(problem="What is {1}?")
    assert fill_template(DAPO_TEMPLATE, "What is {1}?") == wrapped
    assert fill_template(DAPO_TEMPLATE, wrapped) == wrapped
    assert fill_template("{problem} Say a number.", wrapped) == "What is {1}? Say a number."
    assert unwrap(wrapped) == "What is {1}?"


def test_a_prompt_with_an_answer_line_of_its_own_is_left_alone() -> None:
    own = "Compute 1+1. The last line should be of the form Answer: X."
    assert fill_template(DAPO_TEMPLATE, own) == own


def test_the_template_is_the_wording_of_the_published_data(
    shared_data: Callable[[str], Path],
) -> None:
    from pyarrow import parquet

    table = parquet.read_table(shared_data("aime-2024.parquet"))
    for chat, extra in zip(
        table["prompt"].to_pylist(), table["extra_info"].to_pylist(), strict=True
    ):
        assert chat[0]["content"] == DAPO_TEMPLATE.format(problem=extra["raw_problem"])


def test_thirty_competition_problems_are_asked_as_published(
    shared_data: Callable[[str], Path],
) -> None:
    env = MathEnv({"path": shared_data("aime-2024.parquet")})
    texts = prompts(env, range(30))
    assert len(set(texts)) == 30
    assert all(text.count("Solve the following") == 1 for text in texts)


@pytest.mark.parametrize(
    "name", ["gsm8k-train.jsonl", "mawps.jsonl", "mawps-addsub.jsonl", "aime-2024.parquet"]
)
@pytest.mark.parametrize(
    "rule", ["strict", "last_number", "boxed", "numeric", "math_verify", "dapo_recipe"]
)
def test_these_rules_can_judge_every_real_problem(
    shared_data: Callable[[str], Path], caplog: pytest.LogCaptureFixture, name: str, rule: str
) -> None:
    MathEnv({"path": shared_data(name), "answer_rule": rule})
    assert "cannot accept" not in caplog.text


def test_problems_that_a_rule_cannot_judge_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mixed.jsonl"
    answers = ["5", "x+1", "1,000", "Tuesday"]
    path.write_text("".join(json.dumps({"question": f"Q{a}", "answer": a}) + "\n" for a in answers))
    assert len(MathEnv(path=path).problems) == 4
    env = MathEnv(path=path, answer_rule="last_number")
    assert [p.answer for p in env.problems] == ["5", "1,000"]
    assert (
        "left out 2 of 4 problems: answer_rule='last_number' cannot accept their ground truth"
        in caplog.text
    )
    assert [p.answer for p in MathEnv(path=path, answer_rule="exact_integer").problems] == ["5"]


def test_a_rule_that_can_judge_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.jsonl"
    path.write_text('{"question": "Which day?", "answer": "Tuesday"}\n')
    message = (
        "^split='all': no problem is left of 1 with heldout_fraction=0.1 "
        "and answer_rule='last_number' .1 cannot be"
    )
    with pytest.raises(ValueError, match=message):
        MathEnv(path=path, answer_rule="last_number")


def test_copies_of_an_environment_share_their_problems(sums: str) -> None:
    assert MathEnv(path=sums).problems is MathEnv(path=sums, seed=3).problems


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"path": None},
            r"^path=None: must be a \.parquet, \.jsonl, \.json or \.csv file, .*"
            r" or a list of these$",
        ),
        ({"path": "/nowhere.jsonl"}, "^path='/nowhere.jsonl': no such file"),
        (
            {"answer_rule": "last-number"},
            "^answer_rule='last-number': must be one of .*; did you mean 'last_number'",
        ),
        ({"split": "test"}, "^split='test': must be one of all, train, heldout"),
        (
            {"split": "heldout", "heldout_fraction": 0},
            "^split='heldout': no problem is left of 200 with",
        ),
        ({"heldout_fraction": -1}, "^heldout_fraction=-1: must be a number from 0 to 1"),
        (
            {"template": "{question}"},
            r"^template='\{question\}': must be a text with the field \{problem\}",
        ),
        ({"seed": 1.5}, "^seed=1.5: must be a whole number"),
        ({"limit": 0}, "^limit=0: must be at least 1"),
        ({"paths": "x"}, "^MathEnv: unknown setting 'paths' .*; did you mean 'path'"),
    ],
)
def test_settings_out_of_bounds_are_refused_in_one_clear_line(
    sums: str, config: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        MathEnv({"path": sums} | config)
    assert "\n" not in str(caught.value)
