"""Every column of a row reaches whoever scores, whatever kind of file it is in."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from rllib_dapo.envs.adapters.reward_function import RewardFunctionEnv
from rllib_dapo.envs.carried_columns import carried, distinct
from rllib_dapo.envs.datasets import load_dataset
from rllib_dapo.envs.math import MathEnv
from rllib_dapo.envs.verify import Verdict

WriteFile = Callable[..., Path]
ROWS: tuple[dict[str, Any], ...] = (
    {"question": "1+1", "answer": "2", "level": 3, "tags": ["sum", "easy"], "meta": {"by": "me"}},
    {"question": "2+2", "answer": "4", "level": None, "tags": [], "meta": {"by": "you"}},
)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_columns_are_those_of_the_problems_own_row(
    tmp_path: Path, write_file: WriteFile, ending: str
) -> None:
    # a copy and a row without a prompt are left out, and shift nothing
    rows = (ROWS[0], ROWS[0], {**ROWS[0], "question": ""}, ROWS[1])
    path = write_file(tmp_path / f"data{ending}", *rows)
    found = [dict(problem.columns) for problem in load_dataset(path, keep_columns=True).problems]
    assert found == list(ROWS)


def test_a_csv_file_carries_texts_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("question,answer,level,level\nQ,007,1.50,x\n")
    [problem] = load_dataset(path, keep_columns=True).problems
    assert problem.columns == {"question": "Q", "answer": "007", "level": "1.50", "level#2": "x"}


def test_columns_in_many_batches_stay_in_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rllib_dapo.envs import readers

    monkeypatch.setattr(readers, "_BATCH_ROWS", 7)
    numbers = list(range(50))
    table = pa.table({"question": [f"Q{n}" for n in numbers], "answer": numbers, "n": numbers})
    parquet.write_table(table, tmp_path / "data.parquet")
    found = load_dataset(tmp_path / "data.parquet", keep_columns=True).problems
    assert [(p.prompt, p.columns["n"]) for p in found] == [(f"Q{n}", n) for n in numbers]


def test_kinds_that_json_does_not_know_become_ones_that_it_does(tmp_path: Path) -> None:
    columns = {
        "question": ["Q"],
        "answer": ["A"],
        "day": [datetime.date(2026, 1, 2)],
        "at": [datetime.datetime(2026, 1, 2, 3, 4, 5)],
        "took": [datetime.timedelta(seconds=1.5)],
        "raw": [b"\x00\xff"],
        "short": pa.array([0.1], pa.float32()),
        "nothing": [float("nan")],
        "half": ["\ud800".encode("utf-16-le", "surrogatepass").decode("latin-1")],
    }
    parquet.write_table(pa.table(columns), tmp_path / "data.parquet")
    [problem] = load_dataset(tmp_path / "data.parquet", keep_columns=True).problems
    assert json.loads(json.dumps(problem.columns)) == problem.columns
    assert {name: problem.columns[name] for name in ("day", "at", "took", "raw")} == {
        "day": "2026-01-02",
        "at": "2026-01-02T03:04:05",
        "took": 1.5,
        "raw": "AP8=",
    }
    assert (problem.columns["short"], problem.columns["nothing"]) == (0.1, None)


def test_what_is_not_utf8_in_another_column_costs_the_row_nothing(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"question,answer,by\nQ1,2,M\xfcller\nQ2,3,me\n")
    problems = load_dataset(path, keep_columns=True).problems
    assert [problem.columns["by"] for problem in problems] == ["M\ufffdller", "me"]


def test_half_characters_and_names_that_come_twice_are_mended() -> None:
    assert carried({"a\ud800": ["\ud800", {"b": "\0"}]}) == {"a\ufffd": ["\ufffd", {"b": "\ufffd"}]}
    assert distinct(["a", "b", "a", "a", "a#2"]) == ["a", "b", "a#2", "a#3", "a#2#2"]


def by_level(prompt: str, response: str, *, columns: dict[str, Any]) -> float:
    return float(columns["level"] or 0) + len(columns["tags"]) / 10


@pytest.mark.parametrize("place", ["here", "process"])
def test_a_reward_function_is_given_every_column(
    tmp_path: Path, write_file: WriteFile, place: str
) -> None:
    path = write_file(tmp_path / "data.jsonl", *ROWS)
    env = RewardFunctionEnv(path=path, reward=by_level, verify_in=place)
    rewards = {}
    for seed in range(2):
        prompt, _ = env.reset(seed=seed)
        rewards[prompt] = env.step("whatever")[1]
    env.close()
    assert rewards == {"1+1": 3.2, "2+2": 0.0}


class ByLevel(MathEnv):
    """Scores by a column beside the answer."""

    def score(self, problem: Any, response: str) -> Verdict:
        return Verdict(is_correct=None, reward=float(problem.columns["level"]))


def test_problems_of_a_file_that_a_user_scores_carry_columns_and_those_of_a_rule_do_not(
    tmp_path: Path, write_file: WriteFile
) -> None:
    path = write_file(tmp_path / "data.jsonl", {"question": "Q", "answer": "2", "level": 3})
    env = ByLevel(path=path, verify_in="here")
    env.reset(seed=0)
    assert env.step("2")[1] == 3.0
    assert MathEnv(path=path).problem(0).columns == {}
