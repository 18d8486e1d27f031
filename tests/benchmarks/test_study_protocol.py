"""What the study compares, and what its claims depend on."""

from __future__ import annotations

from typing import Any

import pytest
from sample_efficiency import PROTOCOL, digests, expected_minutes, parse
from study_arms import ARMS
from study_runs import RunKey, planned
from study_summary import HOLDS, HOLDS_NOT, NOT_MEASURED, summary
from study_tasks import TASKS, BackwardsRecipe, WrittenSumsRecipe, written_out
from study_training import COLUMNS, make_config, run_file


def config_of(arm: str, task: str = "sums") -> dict[str, Any]:
    return run_file(RunKey(task=task, arm=arm, lr=1e-4, seed=3), PROTOCOL)


def test_arms_differ_in_their_objective_alone() -> None:
    objective = {"preset", "training", "kl", "overlong", "dynamic_sampling", "critic"}
    plain = {k: v for k, v in config_of("grpo").items() if k not in objective}
    for arm in ARMS:
        assert {k: v for k, v in config_of(arm).items() if k not in objective} == plain
        assert config_of(arm)["training"]["lr"] == 1e-4
        assert config_of(arm)["overlong"]["buffer_tokens"] == TASKS["sums"].buffer_tokens


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_arm_is_a_configuration_that_is_accepted(task: str) -> None:
    for arm in ARMS:
        key = RunKey(task=task, arm=arm, lr=3e-4, seed=2)
        config = make_config(key, PROTOCOL, model="tiny")
        config.validate()
        assert (config.lr, config.seed) == (3e-4, 2)


def test_the_rows_of_table_1_add_up() -> None:
    rows = [config_of(name) for name, arm in ARMS.items() if arm.part == "table1"]
    assert [row["preset"] for row in rows] == ["grpo"] * 5
    assert all(row["kl"] == {"coefficient": 0.0} for row in rows)
    last = rows[-1]
    assert last["overlong"]["filtering"]
    assert last["overlong"]["penalty"] == 1.0
    assert last["training"]["epsilon_high"] == 0.28
    assert last["training"]["loss_aggregation"] == "token_mean"
    assert last["dynamic_sampling"] == {"enabled": True}


def test_every_run_has_a_digest_of_its_own() -> None:
    runs = planned(list(TASKS), list(ARMS), [1e-4, 3e-4], [0, 1])
    assert len(set(digests(runs, PROTOCOL).values())) == len(runs)
    longer = digests(runs, {**PROTOCOL, "iterations": 41})
    assert not set(longer.values()) & set(digests(runs, PROTOCOL).values())


def test_the_whole_study_has_five_seeds_two_tasks_and_the_same_rates_for_all() -> None:
    given = parse([])
    assert len(given.seeds) >= PROTOCOL["least_seeds"] >= 5
    assert len(given.tasks) >= 2
    assert PROTOCOL["primary_lr"] in given.learning_rates


def test_time_is_expected_from_the_runs_that_are_there() -> None:
    assert expected_minutes(6, [], 1) == 6.0
    assert expected_minutes(6, [{"total_seconds": 20.0}], 2) == 1.0


def test_a_sum_is_written_out_in_two_forms() -> None:
    assert written_out("7+5+9", is_long=False) == "12=21"
    assert written_out("7+5+9+1", is_long=True) == "12+9+1=21+1=22"


def test_a_right_sum_can_be_written_without_punishment_and_a_long_form_cannot() -> None:
    assert TASKS["sums"].ceiling() == 1.0
    task = TASKS["written_sums"]
    assert task.ceiling() == 1.0
    longest = "+".join(["19"] * 4)
    assert len(written_out(longest, is_long=True)) > task.max_response_tokens


def test_warm_up_records_of_sums_are_right() -> None:
    records = WrittenSumsRecipe().records()
    for prompt, response in (next(records) for _ in range(50)):
        numbers = map(int, prompt.removesuffix("=").split("+"))
        assert int(response.split("=")[-1]) == sum(numbers)


def test_a_longer_word_is_warmed_up_with_more_noise() -> None:
    import random

    recipe, rng = BackwardsRecipe(ramble=0.0), random.Random(0)
    right = [
        sum(recipe.noisy(word, rng) == word for _ in range(500)) / 500
        for word in ("nus", "nmutua", "yadretse")
    ]
    assert right[0] > 0.7 > right[1] > 0.1 > right[2]


def runs(accuracies: dict[str, list[float]]) -> dict[RunKey, dict[str, Any]]:
    """Runs of two evaluations, the second of which has these accuracies."""
    made = {}
    for arm, ends in accuracies.items():
        for seed, end in enumerate(ends):
            columns: dict[str, Any] = {name: [None, 1.0] for name in COLUMNS}
            columns |= {name: [0.0, 100.0] for name in ("updates", "responses", "tokens")}
            columns |= {"seconds": [0.0, 10.0], "accuracy": [0.0, end]}
            key = RunKey(task="sums", arm=arm, lr=1e-4, seed=seed)
            made[key] = {"columns": columns, "total_seconds": 30.0}
    return made


@pytest.mark.parametrize(
    ("dapo", "sooner", "higher"),
    [
        ([0.8] * 5, HOLDS, HOLDS),
        ([0.5] * 5, HOLDS_NOT, HOLDS),
        ([0.405] * 5, HOLDS_NOT, HOLDS_NOT),
        ([0.3] * 5, HOLDS_NOT, HOLDS_NOT),
        ([0.8] * 4, NOT_MEASURED, NOT_MEASURED),
    ],
    ids=["twice as fast", "higher alone", "within the margin", "worse", "four seeds"],
)
def test_verdicts_follow_from_margin_and_interval(
    dapo: list[float], sooner: str, higher: str
) -> None:
    made = summary(
        runs({"grpo": [0.4] * 5, "dapo": dapo}), protocol=PROTOCOL, ceilings={"sums": 1.0}
    )
    found = [claim["verdict"] for claim in made["claims"] if claim["task"] == "sums"]
    assert found == [sooner, higher]
    assert {c["verdict"] for c in made["claims"] if c["task"] == "backwards"} == {NOT_MEASURED}


def test_a_summary_by_hand() -> None:
    made = summary(
        runs({"grpo": [0.1, 0.2, 0.3, 0.4, 0.9], "dapo": [0.6] * 5}),
        protocol=PROTOCOL,
        ceilings={"sums": 1.0},
    )
    grpo, dapo = made["cells"]
    assert grpo["accuracy"] == [0.0, 0.3]  # the mean of the three in the middle
    assert dapo["difference"]["value"] == pytest.approx(0.3)
    assert dapo["speed_up_updates"]["value"] == pytest.approx(2.0)
    assert dapo["entropy"] == [1.0, 1.0]
    assert [(row["arm"], row["lr"]) for row in made["best_rates"]] == [
        ("grpo", 1e-4),
        ("dapo", 1e-4),
    ]
    assert made["over_tasks"] == []
