"""Answers in their kinds: what becomes the ground truth, what is left out, what is refused."""

import datetime
import json
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from rllib_dapo.envs.adapters.reward_function import RewardFunctionEnv
from rllib_dapo.envs.answer_cells import UnusableAnswerError, answer_as_data, final_answer
from rllib_dapo.envs.datasets import load_dataset

WriteFile = Callable[..., Path]
# A busy machine is no fault.


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        (["2"], "2"),
        ([["2"]], "2"),
        (("2",), "2"),
        ([2.0], "2"),
        (["2", " 2"], "2"),
        (np.array(["2"]), "2"),
        ([], ""),
        ([None], ""),
        ({}, ""),
        ('["2"]', "2"),
        (r'["\\frac{3}{56}"]', r"\frac{3}{56}"),
        ("[1, 2]", "[1, 2]"),  # an interval
        ("[2]", "[2]"),
        ("{1, 2}", "{1, 2}"),
        (True, "True"),
        (np.bool_(False), "False"),
        (10**30, "1" + "0" * 30),
        (1e20, "1" + "0" * 20),
        (0.1, "0.1"),
        (np.float32(0.1), "0.1"),
        (-0.0, "0"),
        (float("nan"), ""),
        (Decimal("2.00"), "2"),
        (Decimal("1.50"), "1.5"),
        (Decimal("1E+2"), "100"),
        (Decimal("NaN"), ""),
        (datetime.date(2024, 1, 31), "2024-01-31"),
        (b"2", "2"),
        ("#### 5\nThe answer is: 5", "5"),
        ("Two and three.\nThe answer is: 5.", "5"),
        ("Answer: 5", "5"),
        ("The answer is unclear", "The answer is unclear"),
    ],
)
def test_the_ground_truth_is_what_a_response_can_give(value: Any, answer: str) -> None:
    assert final_answer(value) == answer


@pytest.mark.parametrize(
    "value", [["2", "3"], '["2", "3"]', [1, 2], {"value": 2}, '{"value": 2}', object(), b"\xff"]
)
def test_what_no_response_can_be_compared_with_is_told(value: Any) -> None:
    with pytest.raises(UnusableAnswerError, match=r"^the answer is "):
        final_answer(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_written_out_without_loss(value: float) -> None:
    text = final_answer(value)
    assert float(text) == value
    assert "e" not in text
    assert not text.endswith(".")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_any_value_is_a_text_or_is_told(value: Any) -> None:
    with suppress(UnusableAnswerError):
        assert isinstance(final_answer(value), str)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_lists_of_answers_are_taken_apart_or_left_out_with_the_row(
    tmp_path: Path, ending: str, write_file: WriteFile
) -> None:
    answers = [["2"], ["2", "3"], [], ["4"]]
    rows = [{"question": f"Q{i}", "answer": answer} for i, answer in enumerate(answers)]
    data = load_dataset(write_file(tmp_path / f"d{ending}", *rows))
    assert [problem.answer for problem in data.problems] == ["2", "4"]
    several, none = data.report.sources[0].findings
    assert (several.rows, several.first_row) == (1, 2)
    assert several.example == "the answer is a list of 2"
    assert (none.reason, none.first_row) == ("no answer", 3)

    path = write_file(tmp_path / f"only{ending}", {"question": "Q", "answer": ["2", "3"]})
    with pytest.raises(ValueError, match=r"no problem in it .*compared with \(first: row 1\)"):
        load_dataset(path)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_mapping_as_answer_is_refused_with_its_row_and_the_way_out(
    tmp_path: Path, ending: str, write_file: WriteFile
) -> None:
    path = write_file(tmp_path / f"d{ending}", {"question": "Q", "ground_truth": {"value": "2"}})
    message = (
        r"^path=.*: row 1: the answer is a mapping with value, and nothing can be compared with "
        r'that; name the field that holds the answer, as in columns=\{"answer": '
        r'"ground_truth.value"\}$'
    )
    with pytest.raises(ValueError, match=message):
        load_dataset(path)
    data = load_dataset(path, columns={"answer": "ground_truth.value"})
    assert [problem.answer for problem in data.problems] == ["2"]


def test_the_truth_of_the_recipes_files_may_be_a_list_in_a_text_or_an_object_in_a_text(
    tmp_path: Path, write_file: WriteFile
) -> None:
    reward_model = {"ground_truth": '["2"]', "style": "rule"}
    for kept in (reward_model, json.dumps(reward_model)):
        for ending in (".jsonl", ".parquet"):
            row = {"prompt": "Q", "reward_model": kept}
            (problem,) = load_dataset(write_file(tmp_path / f"d{ending}", row)).problems
            assert problem.answer == "2"


def test_parquets_own_kinds_are_read(tmp_path: Path) -> None:
    columns = {
        "float32": pa.array([0.1], pa.float32()),
        "decimal": pa.array([Decimal("2.50")], pa.decimal128(10, 2)),
        "int8": pa.array([7], pa.int8()),
        "category": pa.array(["x"]).dictionary_encode(),
        "date": pa.array([datetime.date(2024, 1, 31)]),
        "large": pa.array(["y"], pa.large_string()),
        "binary": pa.array([b"z"]),
    }
    parquet.write_table(pa.table({"question": ["Q"], **columns}), tmp_path / "d.parquet")
    answers = {}
    for name in columns:
        (problem,) = load_dataset(tmp_path / "d.parquet", columns={"answer": name}).problems
        answers[name] = problem.answer
    assert answers == {
        "float32": "0.1",
        "decimal": "2.5",
        "int8": "7",
        "category": "x",
        "date": "2024-01-31",
        "large": "y",
        "binary": "z",
    }


def right(prompt: str, response: str, answer: str) -> float:
    return float(response in json.loads(answer)["any"])


def test_a_function_gets_the_answer_as_json_and_a_rule_a_text(
    tmp_path: Path, write_file: WriteFile
) -> None:
    assert answer_as_data(["a", "b"]) == '["a", "b"]'
    assert answer_as_data('["a"]') == '["a"]'
    assert answer_as_data(2.0) == "2"

    path = write_file(tmp_path / "d.jsonl", {"question": "Q", "answer": {"any": ["2", "two"]}})
    env = RewardFunctionEnv(path=path, reward=right, verify_in="here")
    env.reset(seed=0)
    assert env.step("two")[1] == 1.0
    with pytest.raises(ValueError, match="the answer is a mapping with any"):
        RewardFunctionEnv(path=path, reward={"right": {"rule": "strict"}})
