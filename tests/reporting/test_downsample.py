from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rllib_dapo.reporting.downsample import (
    FEWEST_POINTS,
    MOST_POINTS,
    downsampled_indices,
    points_per_curve,
)

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400)


@given(numbers, st.integers(4, 50))
def test_no_more_points_are_kept_than_asked_for_and_none_is_made_up(
    values: list[float], limit: int
) -> None:
    kept = downsampled_indices(values, limit)
    assert len(kept) <= limit or len(values) <= limit
    assert kept == sorted(set(kept))
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1


@given(numbers, st.integers(4, 50))
def test_the_highest_and_the_lowest_point_stay(values: list[float], limit: int) -> None:
    kept = [values[i] for i in downsampled_indices(values, limit)]
    assert max(kept) == max(values)
    assert min(kept) == min(values)


def test_a_spike_of_one_iteration_in_ten_thousand_stays() -> None:
    values = np.zeros(10_000)
    values[6_789] = 1.0
    assert 6_789 in downsampled_indices(values, 100)


def test_without_a_limit_all_points_stay() -> None:
    assert downsampled_indices([3.0, 1.0, 2.0], None) == [0, 1, 2]


def test_the_more_curves_the_fewer_points_each() -> None:
    assert points_per_curve(10) == MOST_POINTS
    assert FEWEST_POINTS < points_per_curve(64 * 20) < MOST_POINTS
    assert points_per_curve(10**6) == FEWEST_POINTS
