"""Which groups are informative: by their raw verdicts alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_dapo.core import GroupSummary
from rllib_dapo.rollout.group_decisions import Decision, decide

MakeSummary = Callable[..., GroupSummary]

VERDICTS = st.lists(st.booleans(), min_size=2, max_size=8)


@pytest.mark.parametrize(
    ("rewards", "is_correct", "decision"),
    [
        ((1, -1, -1), (True, False, False), Decision.ACCEPTED),
        ((1, 1, -1), (True, True, False), Decision.ACCEPTED),
        ((1, 1, 1), (True, True, True), Decision.ALL_CORRECT),
        ((-1, -1), (False, False), Decision.ALL_WRONG),
        # an environment may pay partial credit beside its verdict: the verdict decides
        ((1, 0.5), (True, True), Decision.ALL_CORRECT),
        ((0.2, 0), (False, False), Decision.ALL_WRONG),
        ((0.5, 0.5), (True, False), Decision.ACCEPTED),
        # graded, no notion of correct
        ((0.1, 0.5), None, Decision.ACCEPTED),
        ((0.3, 0.3), None, Decision.NO_SIGNAL),
        ((0.1 + 0.2, 0.3), None, Decision.NO_SIGNAL),
        ((0.3, 0.3 + 9e-7), None, Decision.NO_SIGNAL),
        ((0.3, 0.3 + 2e-6), None, Decision.ACCEPTED),
        # graded in part: what every response has is a reward
        ((1, 0.5), (True, None), Decision.ACCEPTED),
        ((1, 1), (True, None), Decision.NO_SIGNAL),
        # missing verdicts are left out
        ((nan, 1, -1), (None, True, False), Decision.ACCEPTED),
        ((nan, 1, 1), (None, True, True), Decision.ALL_CORRECT),
        ((nan, -1, -1), (None, False, False), Decision.ALL_WRONG),
        ((nan, 0.5, 0.7), None, Decision.ACCEPTED),
        ((nan, 0.5, 0.5), None, Decision.NO_SIGNAL),
        ((nan, 1), (None, True), Decision.MISSING),
        ((nan, nan), (None, None), Decision.MISSING),
        ((), (), Decision.PROMPT_TOO_LONG),
    ],
)
def test_a_group_is_judged_on_its_raw_verdicts(
    make_summary: MakeSummary,
    rewards: Sequence[float],
    is_correct: Sequence[bool | None],
    decision: Decision,
) -> None:
    assert decide(make_summary(rewards=rewards, is_correct=is_correct)) is decision


@given(
    verdicts=VERDICTS,
    rewards=st.lists(st.floats(-10, 10), min_size=8, max_size=8),
    lengths=st.permutations(range(8)),
)
def test_neither_rewards_nor_lengths_matter_where_there_are_verdicts(
    make_summary: MakeSummary, verdicts: list[bool], rewards: list[float], lengths: list[int]
) -> None:
    plain = make_summary(
        rewards=[1.0 if correct else -1.0 for correct in verdicts], is_correct=verdicts
    )
    n = len(verdicts)
    shaped = replace(
        plain,
        rewards=tuple(rewards[:n]),
        response_tokens=tuple(lengths[:n]),
        is_truncated=tuple(length > 4 for length in lengths[:n]),
    )
    assert decide(shaped) is decide(plain)


@pytest.mark.parametrize(
    ("rewards", "is_correct", "decision"),
    [
        ((1, 1), (True, True), Decision.ACCEPTED),
        ((-1, -1), (False, False), Decision.ACCEPTED),
        ((0.3, 0.3), None, Decision.ACCEPTED),
        ((nan, 1), (None, True), Decision.MISSING),
        ((), (), Decision.PROMPT_TOO_LONG),
    ],
)
def test_without_dynamic_sampling_whatever_can_be_trained_on_is_taken(
    make_summary: MakeSummary,
    rewards: Sequence[float],
    is_correct: Sequence[bool | None],
    decision: Decision,
) -> None:
    assert (
        decide(make_summary(rewards=rewards, is_correct=is_correct), dynamic_sampling=False)
        is decision
    )


@pytest.mark.parametrize("dynamic_sampling", [True, False])
@pytest.mark.parametrize(
    ("rewards", "is_correct", "decision"),
    [
        ((1,), (True,), Decision.ALL_CORRECT),
        ((nan, -1), (None, False), Decision.ALL_WRONG),
        ((nan, 0.5), None, Decision.NO_SIGNAL),
        ((nan,), (None,), Decision.MISSING),
        ((nan, nan), None, Decision.MISSING),
        ((), (), Decision.PROMPT_TOO_LONG),
    ],
)
def test_with_a_baseline_of_its_own_a_single_verdict_can_be_trained_on(
    make_summary: MakeSummary,
    rewards: Sequence[float],
    is_correct: Sequence[bool | None],
    decision: Decision,
    dynamic_sampling: bool,
) -> None:
    group = make_summary(rewards=rewards, is_correct=is_correct)
    known = decision not in (Decision.MISSING, Decision.PROMPT_TOO_LONG)
    expected = Decision.ACCEPTED if known and not dynamic_sampling else decision
    assert decide(group, dynamic_sampling=dynamic_sampling, min_verdicts=1) is expected
