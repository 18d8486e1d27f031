"""Metrics of an evaluation, worked by hand."""

from __future__ import annotations

import json
from collections.abc import Callable

import pandas
import pytest

from rllib_dapo.evaluation.data_set_metrics import (
    as_json_values,
    data_set_metrics,
    problem_columns,
)

MakeRows = Callable[..., pandas.DataFrame]


@pytest.fixture
def responses(make_rows: MakeRows) -> pandas.DataFrame:
    """Four responses to each of two problems; to a third there are none."""
    return pandas.concat(
        [
            make_rows(0, ["1", "1", "2", ""], cut_off=[3]),
            make_rows(1, ["2", "1", "2", "1"], missing=[3]),
        ],
        ignore_index=True,
    )


def test_every_measure_by_hand(responses: pandas.DataFrame) -> None:
    values = as_json_values(data_set_metrics(responses, num_samples=4, num_problems=3, seed=0))

    # 2 of 4 and 1 of 4: a missing verdict does not count as correct.
    assert values["avg@4"] == (2 / 4 + 1 / 4) / 2
    assert values["pass@4"] == 1
    # The first problem's majority is right. In the second two predictions tie, since the response
    # with a missing verdict votes too.
    assert values["maj@4"] == (1 + 0.5) / 2

    assert values["curves"]["avg"] == {"1": 0.375, "2": 0.375, "4": 0.375}
    # Of six pairs, 1 is all wrong in the first problem, and 3 are in the second.
    assert values["curves"]["pass"] == pytest.approx({"1": 0.375, "2": (5 / 6 + 1 / 2) / 2, "4": 1})


def test_what_is_missing_or_left_out_is_counted_apart(responses: pandas.DataFrame) -> None:
    values = as_json_values(data_set_metrics(responses, num_samples=4, num_problems=3, seed=0))
    counted = {
        name: values[name]
        for name in ("problems", "responses", "correct", "missing", "truncated", "tokens_mean")
    }
    assert counted == {
        "problems": 2,
        "responses": 8,
        "correct": 3,
        "missing": 1,
        "truncated": 1,
        "tokens_mean": 4,
    }
    assert values["prompts_too_long"] == 1
    assert values["missing_by_reason"] == {"timeout": 1}
    assert values["reward_mean"] == pytest.approx((0 + (-1 + 1 - 1) / 3) / 2)


def test_a_right_answer_that_never_ends_is_not_completed(make_rows: MakeRows) -> None:
    responses = pandas.concat(
        [
            make_rows(0, ["1", "1", "2", "1"], cut_off=[1, 2]),
            make_rows(1, ["1", "2", "1", "1"], cut_off=[0], missing=[3]),
        ],
        ignore_index=True,
    )
    found = data_set_metrics(responses, num_samples=4, num_problems=2, seed=0)
    values = as_json_values(found)

    # Right are 3 and, as a missing verdict is no right answer, 2; of each one was cut off.
    assert values["avg@4"] == (3 / 4 + 2 / 4) / 2
    assert values["completed_and_correct"] == (2 / 4 + 1 / 4) / 2
    assert values["intervals"]["completed_and_correct"] == [0.25, 0.5]
    assert [row["completed_and_correct"] for row in found.per_problem] == [0.5, 0.25]


def test_intervals_hold_the_figure_and_are_the_seeds(responses: pandas.DataFrame) -> None:
    values = as_json_values(data_set_metrics(responses, num_samples=4, num_problems=2, seed=0))
    for name, (low, high) in values["intervals"].items():
        assert low <= values[name] <= high
    assert (
        as_json_values(data_set_metrics(responses, num_samples=4, num_problems=2, seed=0)) == values
    )
    # A resample of two problems may hold either of them twice.
    assert values["intervals"]["avg@4"] == [0.25, 0.5]


def test_each_problem_has_a_row(responses: pandas.DataFrame) -> None:
    found = data_set_metrics(responses, num_samples=4, num_problems=2, seed=0)
    first, second = found.per_problem
    assert set(first) == set(problem_columns(found))
    assert (first["correct"], first["majority"], first["avg@4"], first["maj@4"]) == (2, "1", 0.5, 1)
    assert (second["correct"], second["missing"], second["maj@4"]) == (1, 1, 0.5)


def test_an_environment_that_only_grades_has_rewards_and_no_accuracy(make_rows: MakeRows) -> None:
    found = data_set_metrics(
        make_rows(0, ["a", "b"], graded=[0.25, 0.75]), num_samples=2, num_problems=1, seed=0
    )
    values = as_json_values(found)
    assert (values["avg@2"], values["pass@2"], values["maj@2"]) == (None, None, None)
    assert values["completed_and_correct"] is None
    assert found.per_problem[0]["completed_and_correct"] is None
    assert values["reward_mean"] == 0.5
    assert "avg@2" not in problem_columns(found)
    assert json.loads(json.dumps(values)) == values


def test_without_predictions_there_is_no_majority(make_rows: MakeRows) -> None:
    values = as_json_values(
        data_set_metrics(make_rows(0, ["", ""], right=""), num_samples=2, num_problems=1, seed=0)
    )
    assert (values["avg@2"], values["maj@2"]) == (1, None)


def test_verdicts_that_are_all_missing_are_no_success(make_rows: MakeRows) -> None:
    values = as_json_values(
        data_set_metrics(
            make_rows(0, ["1", "1"], missing=[0, 1]), num_samples=2, num_problems=1, seed=0
        )
    )
    assert (values["avg@2"], values["pass@2"], values["reward_mean"], values["missing"]) == (
        0,
        0,
        None,
        2,
    )


def test_nothing_to_evaluate_is_said(make_rows: MakeRows) -> None:
    nothing = make_rows(0, ["1"]).iloc[:0]
    with pytest.raises(ValueError, match=r"no prompt fits rollout\.max_prompt_tokens"):
        data_set_metrics(nothing, num_samples=1, num_problems=3, seed=0)
