"""What is expected of groups under way: by hand, and against the model that it is derived from."""

from __future__ import annotations

import math
from fractions import Fraction
from math import comb, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_dapo.rollout.acceptance_estimate import AcceptanceEstimate
from rllib_dapo.rollout.group_so_far import GroupSoFar


def agreeing(known: int, unfinished: int, missing: int = 0) -> GroupSoFar:
    return GroupSoFar(
        rewards=(1.0,) * known + (nan,) * missing,
        is_correct=(True,) * known + (None,) * missing,
        unfinished=unfinished,
    )


def estimate_of(accepted: float, sampled: float, asked: float | None = None) -> AcceptanceEstimate:
    return AcceptanceEstimate(
        accepted=accepted, sampled=sampled, asked=sampled if asked is None else asked
    )


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (agreeing(0, 4), Fraction(3, 10)),  # nothing known: the rate itself
        # Of groups of four, 3/5 differ somewhere if the share is uniform, so half of the prompts
        # are of that kind. One verdict tells nothing of the kind, and the others agree with it in
        # 2/5 of the cases.
        (agreeing(1, 3), Fraction(1, 2) * Fraction(3, 5)),
        # Two agree with 2/3 (or 1): 1/3 of 5/6 is of the kind, and differs in 1 - 3/5.
        (agreeing(2, 2), Fraction(2, 5) * Fraction(2, 5)),
        # Three agree with 1/2 (or 1): 1/4 of 3/4, and 1 - 4/5.
        (agreeing(3, 1), Fraction(1, 3) * Fraction(1, 5)),
        (agreeing(4, 0), Fraction(0)),
        (agreeing(2, 2, missing=3), Fraction(2, 5) * Fraction(2, 5)),
    ],
)
def test_chances_by_hand(group: GroupSoFar, expected: Fraction) -> None:
    assert estimate_of(30, 100).chance(group) == pytest.approx(float(expected))


@given(
    size=st.integers(2, 32),
    known=st.integers(0, 32),
    share=st.floats(0.01, 1.0),
)
def test_chances_are_those_of_the_mixture_that_they_are_derived_from(
    size: int, known: int, share: float
) -> None:
    """The uniform share's right answers are 0 to n with equal probability (Bayes, 1763)."""
    known = min(known, size)
    rate = share * (size - 1) / (size + 1)

    def agree(correct: int) -> float:
        """How probable it is that the first verdicts agree, given the number of right answers."""
        return (comb(correct, known) + comb(size - correct, known)) / comb(size, known)

    mixed = [share * agree(correct) / (size + 1) for correct in range(1, size)]
    ends = 2 * share * agree(0) / (size + 1) + (1 - share) * agree(0)
    expected = sum(mixed) / (sum(mixed) + ends)
    group = agreeing(known, size - known)
    assert estimate_of(rate * 1e6, 1e6).chance(group) == pytest.approx(expected, abs=1e-3)


def test_of_a_group_that_may_be_skipped_less_is_expected() -> None:
    estimate = estimate_of(30, 50, asked=100)
    assert estimate.chance(None) == pytest.approx(0.3)
    assert estimate.chance(agreeing(0, 8)) == pytest.approx(0.6)
    assert estimate.rate == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("accepted", "wanted", "chances", "num_unknown", "expected"),
    [
        (500, 4, [], 0, 8),
        (1000, 4, [], 0, 4),
        (0, 4, [], 0, 12),  # as much as the limit allows
        (500, 4, [0.5] * 8, 8, 0),
        # 3 expected; their standard deviation is 1.22: will do.
        (500, 4, [0.5] * 6, 6, 0),
        # 1.5 and 0.87 are too few. Of five 2.5 and 1.12, of six 3 and 1.22: three more.
        (500, 4, [0.5] * 3, 3, 3),
        # Three are sure. Of one more 0.5 and 0.5 are just enough.
        (500, 4, [1.0, 1.0, 1.0], 0, 1),
        # Three take the places that the limit allows, unless they will almost certainly be dropped.
        (10, 1, [0.01, 0.01, 0.01], 0, 0),
        (500, 1, [0.01, 0.01, 0.01], 0, 1),
    ],
)
def test_as_much_is_asked_for_as_will_probably_do(
    accepted: int, wanted: int, chances: list[float], num_unknown: int, expected: int
) -> None:
    """Of a thousand groups so many were accepted, so the rate is all but certain."""
    count = estimate_of(accepted, 1000).further(
        wanted=wanted, chances=chances, num_unknown=num_unknown, max_oversampling=3.0
    )
    assert count == expected


def test_an_uncertain_rate_asks_for_less_once_something_is_under_way() -> None:
    chances = [0.5] * 12
    certain, uncertain = (
        estimate.further(wanted=10, chances=chances, num_unknown=12, max_oversampling=3.0)
        for estimate in (estimate_of(5000, 10_000), estimate_of(2, 4))
    )
    assert certain > uncertain


@given(
    accepted=st.floats(0, 100),
    rejected=st.floats(0, 100),
    wanted=st.integers(1, 64),
    chances=st.lists(st.floats(0, 1), max_size=80),
    oversampling=st.floats(1, 10),
)
def test_never_more_than_the_limit_and_always_something_where_nothing_is_under_way(
    accepted: float, rejected: float, wanted: int, chances: list[float], oversampling: float
) -> None:
    estimate = estimate_of(accepted, accepted + rejected)
    options = {"wanted": wanted, "max_oversampling": oversampling}
    count = estimate.further(chances=chances, num_unknown=len(chances), **options)
    assert 0 <= count <= math.ceil(wanted * oversampling)
    assert estimate.further(chances=[], num_unknown=0, **options) >= wanted


def test_where_prompts_are_skipped_more_are_asked_for_within_the_limit_on_sampled_ones() -> None:
    options = {"wanted": 10, "chances": [], "num_unknown": 0}
    estimate = estimate_of(5000, 10_000, asked=40_000)
    # Of 80 groups 10 would do on average. Of 58, it is 7.3, and their standard deviation 2.5.
    assert estimate.further(max_oversampling=3.0, **options) in (59, 60)
    assert estimate.further(max_oversampling=1.2, **options) == 48  # of which 12 are sampled


def test_older_steps_count_for_less() -> None:
    estimate = AcceptanceEstimate()
    for _ in range(50):
        estimate = estimate.after(accepted=10, sampled=10, asked=10).next_step()
    assert estimate.rate == pytest.approx(1.0)
    before = estimate.rate
    for _ in range(3):
        estimate = estimate.after(accepted=0, sampled=10, asked=10).next_step()
    assert estimate.rate < 0.55 < before
    assert AcceptanceEstimate.of(estimate.as_dict()) == estimate
