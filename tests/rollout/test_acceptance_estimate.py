"""What is expected of groups under way: by hand, and against the model that it is derived from."""

from __future__ import annotations

import math
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_dapo.rollout.acceptance_estimate import AcceptanceEstimate
from rllib_dapo.rollout.outlooks import SURE, UNKNOWN, Outlook, Outlooks


def agreeing(known: int, unfinished: int) -> Outlook:
    return Outlook(known=known, total=known + unfinished)


def estimate_of(accepted: float, sampled: float, asked: float | None = None) -> AcceptanceEstimate:
    return AcceptanceEstimate(
        accepted=accepted, sampled=sampled, asked=sampled if asked is None else asked
    )


@pytest.mark.parametrize(
    ("outlook", "expected"),
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
        (agreeing(0, 1), Fraction(0)),
        (SURE, Fraction(1)),
        (UNKNOWN, Fraction(3, 10)),
    ],
)
def test_chances_by_hand(outlook: Outlook, expected: Fraction) -> None:
    assert estimate_of(30, 100).chance(outlook) == pytest.approx(float(expected))


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
    outlook = agreeing(known, size - known)
    assert estimate_of(rate * 1e6, 1e6).chance(outlook) == pytest.approx(expected, abs=1e-3)


def test_of_a_group_that_may_be_skipped_less_is_expected() -> None:
    estimate = estimate_of(30, 50, asked=100)
    assert estimate.chance(UNKNOWN) == pytest.approx(0.3)
    assert estimate.chance(agreeing(0, 8)) == pytest.approx(0.6)
    assert estimate.rate == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("accepted", "wanted", "under_way", "expected"),
    [
        (500, 4, {}, 8),
        (1000, 4, {}, 4),
        (0, 4, {}, 12),  # as much as the limit allows
        (500, 4, {UNKNOWN: 8}, 0),
        # 3 expected; 1.8 times their standard deviation is 2.2: will do.
        (500, 4, {UNKNOWN: 6}, 0),
        # 1.5 and 1.8 times 0.87 are too few. Of four 2 and 1.8, of five 2.5 and 2.01: two more.
        (500, 4, {UNKNOWN: 3}, 2),
        # Three are sure. One more, with 0.5 and 0.9, is enough.
        (500, 4, {SURE: 3}, 1),
        # Three take the places that the limit allows, unless they will almost certainly be dropped.
        (1, 1, {UNKNOWN: 3}, 0),
        (500, 1, {agreeing(15, 1): 3}, 1),
    ],
)
def test_as_much_is_asked_for_as_will_probably_do(
    accepted: int, wanted: int, under_way: dict[Outlook, int], expected: int
) -> None:
    """Of a thousand groups so many were accepted, so the rate is all but certain."""
    count = estimate_of(accepted, 1000).further(
        wanted=wanted, batch=8, under_way=under_way, max_oversampling=3.0
    )
    assert count == expected


def test_an_uncertain_rate_asks_for_less_once_something_is_under_way() -> None:
    certain, uncertain = (
        estimate.further(wanted=10, batch=8, under_way={UNKNOWN: 12}, max_oversampling=3.0)
        for estimate in (estimate_of(5000, 10_000), estimate_of(2, 4))
    )
    assert certain > uncertain


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (8, 4),  # 1.8 standard deviations more: of 12 groups 6 and 3.1 will do for 9
        (128, 10),  # of 18 groups 9 are expected
        (2048, 20),  # 1.8 fewer: of 27 groups 13.5, and 13.5 - 4.7 = 8.8; of 28 14 - 4.8
    ],
)
def test_a_large_batch_has_as_many_begun_that_it_need_not_wait_for_late_ones(
    batch: int, expected: int
) -> None:
    count = estimate_of(500_000, 1_000_000).further(
        wanted=9, batch=batch, under_way={UNKNOWN: 8}, max_oversampling=10.0
    )
    assert count == expected


OUTLOOKS = st.sampled_from([SURE, UNKNOWN, agreeing(0, 8), agreeing(3, 5), agreeing(8, 0)])


@given(
    accepted=st.floats(0, 100),
    rejected=st.floats(0, 100),
    wanted=st.integers(1, 64),
    batch=st.integers(1, 4096),
    under_way=st.dictionaries(OUTLOOKS, st.integers(1, 80)),
    oversampling=st.floats(1, 10),
)
def test_never_more_than_the_limit_and_always_something_where_nothing_is_under_way(
    accepted: float,
    rejected: float,
    wanted: int,
    batch: int,
    under_way: dict[Outlook, int],
    oversampling: float,
) -> None:
    estimate = estimate_of(accepted, accepted + rejected)
    count = estimate.further(
        wanted=wanted, batch=batch, under_way=under_way, max_oversampling=oversampling
    )
    assert 0 <= count <= math.ceil(wanted * oversampling)
    first = estimate.further(
        wanted=wanted, batch=batch, under_way={}, max_oversampling=oversampling
    )
    assert first >= wanted


def test_where_prompts_are_skipped_more_are_asked_for_within_the_limit_on_sampled_ones() -> None:
    estimate = estimate_of(5000, 10_000, asked=40_000)
    # Of 80 groups 10 would do on average. Of 48, it is 6, and 1.8 standard deviations are 4.1.
    assert estimate.further(wanted=10, batch=8, under_way={}, max_oversampling=3.0) in (48, 49)
    # 11 of 44 are sampled.
    assert estimate.further(wanted=10, batch=8, under_way={}, max_oversampling=1.1) == 44


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


def test_outlooks_are_counted() -> None:
    outlooks = Outlooks()
    for seed in range(3):
        outlooks.note(seed, UNKNOWN)
    outlooks.note(1, SURE)
    assert (outlooks.counts, len(outlooks), outlooks.of(1)) == ({UNKNOWN: 2, SURE: 1}, 3, SURE)
    assert outlooks.end(0)
    assert not outlooks.end(0)
    outlooks.end(2)
    assert outlooks.counts == {SURE: 1}
    assert (0 in outlooks, 1 in outlooks, outlooks.of(0)) == (False, True, None)
