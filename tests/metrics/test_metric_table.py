"""The table of metrics, and the figures of a rollout and of an update by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest

from rllib_dapo.core import GroupSummary
from rllib_dapo.metrics.environment_metrics import environment_metrics
from rllib_dapo.metrics.evaluation_metrics import evaluation_metrics
from rllib_dapo.metrics.metric_table import METRICS
from rllib_dapo.metrics.rollout_metrics import rollout_metrics, staleness_metrics, verdict_metrics
from rllib_dapo.rollout.acceptance_estimate import AcceptanceEstimate
from rllib_dapo.rollout.dynamic_sampler import DynamicSampler

MakeSummary = Callable[..., GroupSummary]

# What `DAPO.training_step` adds: shaping and time are not the sampler's to know.
LOGGED_BY_THE_LOOP = {
    "shaped_reward_mean",
    "overlong_penalty_mean",
    "overlong_buffer_tokens",
    "rollout_tokens_per_second",
    "generation_seconds",
    "scoring_seconds",
    "engine_idle_seconds",
}
DOC = Path(__file__).parents[2] / "docs" / "metrics.md"


def names(source: str) -> set[str]:
    return {metric.name for metric in METRICS if metric.source == source}


@pytest.fixture
def sampler(make_summary: MakeSummary) -> DynamicSampler:
    """A step that wanted two groups and asked for ten: one of every fate, and two given up."""
    fifth = AcceptanceEstimate(accepted=20.0, sampled=100.0, asked=100.0)
    sampler = DynamicSampler(prompts_per_step=2, next_seed=0, estimate=fifth, max_oversampling=5.0)
    right, wrong, mixed = (True, True), (False, False), (True, False)
    assert len(sampler.ask()) == 10
    sampler.offer(
        [
            make_summary(0, rewards=(1, -1), is_correct=mixed, response_tokens=(2, 4)),
            make_summary(1, rewards=(1, 1), is_correct=right, response_tokens=(1, 1)),
            make_summary(
                2,
                rewards=(-1, -1),
                is_correct=wrong,
                response_tokens=(8, 8),
                is_truncated=(True, True),
            ),
            make_summary(
                3,
                rewards=(nan, nan),
                is_correct=(None, None),
                response_tokens=(3, 5),
                reasons=("timeout: 5 s", "crash: x"),
            ),
            make_summary(4),
        ]
    )
    sampler.offer(
        [
            make_summary(
                5,
                rewards=(0.25, 0.25),
                response_tokens=(1, 3),
                components=({"form": 1.0}, {"form": 0.5, "words": -1.0}),
            ),
            make_summary(
                6,
                rewards=(nan, 0.5, -0.75),
                response_tokens=(2, 2, 2),
                is_truncated=(True, False, False),
                reasons=("timeout: 5 s", "", ""),
                components=({"form": nan}, {"form": 0.0}, {}),
                metrics=({}, {"words": 3.0}, {"words": 5.0}),
                num_turns=(1, 2, 1),
            ),
            make_summary(
                7, rewards=(1, -1), is_correct=mixed, response_tokens=(6, 8), num_turns=(3, 1)
            ),
        ]
    )
    return sampler


def test_names_are_listed_once_per_source() -> None:
    listed = [(metric.source, metric.name) for metric in METRICS]
    assert len(set(listed)) == len(listed)
    assert {metric.source for metric in METRICS} == {
        "env_runners",
        "learners/default_policy",
        "seconds",
    }
    assert all(metric.unit and metric.reduction and metric.meaning for metric in METRICS)


def test_the_documentation_has_the_tables_rows_in_their_order() -> None:
    rows: list[tuple[str, ...]] = []
    for line in DOC.read_text().splitlines():
        if line.startswith("## "):
            source = line.removeprefix("## ").strip("`").removesuffix("/...")
        if line.startswith("| `"):
            name, unit, reduction, meaning = (
                line.removeprefix("| ").removesuffix(" |").split(" | ", 3)
            )
            rows.append((name.strip("`"), source, unit, reduction, meaning.replace("\\|", "|")))
    assert rows == [tuple(metric) for metric in METRICS]


def test_a_rollouts_figures_by_hand(sampler: DynamicSampler) -> None:
    assert rollout_metrics(sampler) == pytest.approx(
        {
            # 10 verdicts: 1 -1 1 1 -1 -1 0.25 0.25 0.5 -0.75, without those of the surplus group
            "episode_return_mean": 0.25 / 10,
            "episode_return_min": -1,
            "episode_return_max": 1,
            # 13 responses: one of 2 turns, the others of 1
            "episode_len_mean": 14 / 13,
            "episode_len_min": 1,
            "episode_len_max": 2,
            # of 6 verdicts on correctness 3 are right
            "accuracy": 0.5,
            # of the 6 the two that were cut off are wrong, so all 3 that are right also ended
            "completed_and_correct": 0.5,
            # 13 responses: 2 4 1 1 8 8 3 5 1 3 2 2 2
            "response_length_mean": 42 / 13,
            "response_length_max": 8,
            "truncated_fraction": 3 / 13,
            "missing_reward_fraction": 3 / 13,
            "missing_timeout": 2,
            "missing_crash": 1,
            "missing_too_long": 0,
            "missing_rate_limited": 0,
            "missing_unreachable": 0,
            "missing_unreadable": 0,
            "missing_not_seeded": 0,
            "missing_other": 0,
            # 1 0.5 0 and -1
            "reward_components/form": 0.5,
            "reward_components/words": -1,
            "reward_metrics/words": 4,
            "groups_generated": 8,
            "groups_accepted": 2,
            "groups_surplus": 1,
            "groups_given_up": 2,
            "groups_expired": 0,
            "groups_reused": 0,
            # those of the surplus group (6 8) count
            "tokens_per_accepted_group": 56 / 2,
            "groups_all_correct": 1,
            "groups_all_wrong": 1,
            "groups_no_signal": 1,
            "groups_missing": 1,
            "groups_prompt_too_long": 1,
            "groups_prompt_lost": 0,
            "groups_skipped": 0,
            # the batch was chosen from seven
            "acceptance_rate": 2 / 7,
            "sampling_rounds": 1,
        }
    )


def test_every_group_generated_is_accounted_for(sampler: DynamicSampler) -> None:
    metrics = rollout_metrics(sampler)
    fates = (
        "accepted",
        "surplus",
        "all_correct",
        "all_wrong",
        "no_signal",
        "missing",
        "prompt_too_long",
        "prompt_lost",
    )
    assert sum(metrics[f"groups_{fate}"] for fate in fates) == metrics["groups_generated"]


def test_a_rollout_gives_the_tables_metrics_and_no_others(sampler: DynamicSampler) -> None:
    accepted = [replace(group, tokens_by_version={0: 1}) for group in sampler.accepted]
    figures = [
        *rollout_metrics(sampler),
        *staleness_metrics(accepted, version=0),
        *environment_metrics(sampler.seen, lambda seed: "all", accepted=accepted),
    ]
    in_the_table = {re.sub("/.*", "/*", name) for name in figures}
    assert in_the_table == names("env_runners") - LOGGED_BY_THE_LOOP


def test_staleness_is_that_of_tokens_by_hand(make_summary: MakeSummary) -> None:
    groups = [
        make_summary(0, tokens_by_version={5: 3, 6: 1}),
        make_summary(1, tokens_by_version={6: 4}),
        make_summary(2, tokens_by_version={4: 0, 6: 2}),
    ]
    # Of ten tokens three are two updates old, and seven one.
    assert staleness_metrics(groups, version=7) == {"staleness_mean": 1.3, "staleness_max": 2}
    assert staleness_metrics([], version=7) == {}


def test_a_response_that_is_right_and_never_ends_is_correct_but_not_completed(
    make_summary: MakeSummary,
) -> None:
    groups = [
        make_summary(
            0,
            rewards=(1, 1, -1, -1),
            is_correct=(True, True, False, False),
            is_truncated=(False, True, True, False),
        ),
        # Without a verdict: neither figure knows of it, cut off or not.
        make_summary(
            1,
            rewards=(nan, nan, 1),
            is_correct=(None, None, True),
            is_truncated=(True, False, True),
        ),
    ]
    figures = verdict_metrics(groups)
    assert figures["accuracy"] == 3 / 5
    assert figures["completed_and_correct"] == 1 / 5


@pytest.mark.parametrize(
    ("reason", "metric"),
    [
        ("timeout: no verdict within 5 s", "missing_timeout"),
        ("crash: the process ended with status 3", "missing_crash"),
        ("too long: a text of 3000001 characters", "missing_too_long"),
        ("rate limited: HTTP 429 (style)", "missing_rate_limited"),
        ("unreachable: HTTP 503", "missing_unreachable"),
        ("unreadable: 'I like it'", "missing_unreadable"),
        ("not seeded: reset(seed=3) gave the prompt '1', and then '2'", "missing_not_seeded"),
        ("the ground truth 'x' is not a number", "missing_other"),
        ("the reward is inf", "missing_other"),
        ("", "missing_other"),
        ("other: timeout: crash", "missing_other"),
    ],
)
def test_a_missing_verdict_is_counted_under_its_cause(
    make_summary: MakeSummary, reason: str, metric: str
) -> None:
    # A reason beside a verdict, as a wrong answer has one, says nothing of what is missing.
    group = make_summary(
        rewards=(nan, -1.0), is_correct=(None, False), reasons=(reason, "timeout: no")
    )
    counts = {
        name: value
        for name, value in verdict_metrics([group]).items()
        if name.startswith("missing_")
    }
    causes = (
        "missing_timeout",
        "missing_crash",
        "missing_too_long",
        "missing_rate_limited",
        "missing_unreachable",
        "missing_unreadable",
        "missing_not_seeded",
        "missing_other",
    )
    assert counts == {**dict.fromkeys(causes, 0), metric: 1, "missing_reward_fraction": 0.5}


def test_an_evaluation_has_missing_verdicts_turns_and_the_parts_of_rewards_too(
    make_summary: MakeSummary,
) -> None:
    group = make_summary(
        rewards=(nan, 1.0),
        is_correct=(None, True),
        reasons=("timeout: 5 s", ""),
        components=({}, {"form": 0.5}),
    )
    figures = evaluation_metrics([group])
    assert figures["missing_timeout"] == 1
    assert figures["reward_components/form"] == 0.5
    assert figures["episode_len_mean"] == 1


def test_figures_over_nothing_are_left_out(make_summary: MakeSummary) -> None:
    assert verdict_metrics([]) == verdict_metrics([make_summary()]) == {}

    graded = verdict_metrics([make_summary(rewards=(0.5, 0.25))])
    assert not graded.keys() & {"accuracy", "completed_and_correct"}
    assert graded["episode_return_mean"] == 0.375

    missing = verdict_metrics([make_summary(rewards=(nan, nan), response_tokens=(2, 4))])
    assert not missing.keys() & {
        "accuracy",
        "completed_and_correct",
        "episode_return_mean",
        "episode_return_min",
        "episode_return_max",
    }
    assert missing["missing_reward_fraction"] == 1
    assert missing["missing_other"] == 2
