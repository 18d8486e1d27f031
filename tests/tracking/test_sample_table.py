"""The table of samples of real trials, in `samples` beside their results."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from rllib_dapo.core.types import GroupSummary
from rllib_dapo.tracking.sample_record import Sample, from_jsonl
from rllib_dapo.tracking.sample_table import distributions


@pytest.fixture(scope="module")
def tables(sweep_folder: Path) -> dict[str, list[Sample]]:
    """A trial's tables by their files' names."""
    folder = sweep_folder / "trial_00000" / "samples"
    return {path.name: from_jsonl(path.read_text()) for path in sorted(folder.glob("*.jsonl"))}


def test_there_is_a_table_at_the_start_at_each_interval_and_at_each_evaluation(
    tables: dict[str, list[Sample]],
) -> None:
    sources = {name: {(s.source, s.iteration) for s in table} for name, table in tables.items()}
    assert sources == {
        "iteration_000000.jsonl": {("evaluation", 0)},
        "iteration_000001.jsonl": {("training", 1)},
        "iteration_000002.jsonl": {("training", 2), ("evaluation", 2)},
        "iteration_000004.jsonl": {("training", 4), ("evaluation", 4)},
    }


def test_evaluations_show_the_same_prompts_again_and_training_shows_others(
    tables: dict[str, list[Sample]],
) -> None:
    evaluated = [
        {(s.seed, s.prompt) for s in t if s.source == "evaluation"} for t in tables.values()
    ]
    evaluated = [prompts for prompts in evaluated if prompts]
    assert len(evaluated) == 3
    assert all(prompts == evaluated[0] for prompts in evaluated)
    assert [seed for seed, _ in sorted(evaluated[0])] == [0, 1, 2, 3]
    trained = [{s.seed for s in t if s.source == "training"} for t in tables.values()]
    assert trained[1:] == [{0, 1, 2, 3}, {4, 5, 6, 7}, {12, 13, 14, 15}]


def test_verdicts_and_rewards_are_those_of_the_environment(tables: dict[str, list[Sample]]) -> None:
    for sample in (sample for table in tables.values() for sample in table):
        left, _, right = sample.prompt.removesuffix("=").partition("+")
        is_correct = sample.prediction == str(int(left) + int(right))
        assert (sample.verdict, sample.reward) == (
            ("correct", 1.0) if is_correct else ("wrong", -1.0)
        )


def test_weights_are_those_that_sampled(tables: dict[str, list[Sample]]) -> None:
    versions = {(s.source, s.iteration): s.weights_version for t in tables.values() for s in t}
    assert versions[("evaluation", 0)] == versions[("training", 1)]
    assert versions[("training", 2)] == versions[("evaluation", 2)] - 1


def test_tensorboard_has_an_event_file_for_each_table(
    sweep_folder: Path, tables: dict[str, list[Sample]]
) -> None:
    names = [path.name for path in (sweep_folder / "trial_00000" / "samples").glob("*tfevents*")]
    assert len(names) == len(tables)


def test_results_do_not_carry_the_texts(sweep_folder: Path) -> None:
    text = (sweep_folder / "trial_00000" / "result.json").read_text()
    assert '"prediction"' not in text
    assert '"verdict"' not in text


def test_distributions_leave_out_what_has_no_verdict(
    make_summary: Callable[..., GroupSummary],
) -> None:
    groups = [
        make_summary(0, rewards=[1.0, math.nan], is_correct=[True, None], response_tokens=[2, 9]),
        make_summary(1, rewards=[-1.0, 1.0], is_correct=[False, True], response_tokens=[4, 4]),
    ]
    assert distributions(groups) == {
        "distributions/response_length": [2.0, 9.0, 4.0, 4.0],
        "distributions/reward": [1.0, -1.0, 1.0],
        "distributions/accuracy_of_prompt": [1.0, 0.5],
    }
    assert distributions([]) == {}
