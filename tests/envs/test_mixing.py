from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_dapo.envs.mixing import MixedOrder, check_weights


def order(sizes: list[int], weights: list[float], seed: int = 0) -> MixedOrder:
    return MixedOrder(sizes=tuple(sizes), weights=check_weights(weights, sizes), seed=seed)


def test_two_equal_weights_take_turns() -> None:
    mixed = order([5, 5], [1, 1])
    assert [mixed(position) // 5 for position in range(8)] == [1, 0, 1, 0, 1, 0, 1, 0]


def test_each_source_has_epochs_of_its_own() -> None:
    mixed = order([3, 6], [1, 2])
    numbers = [mixed(position) for position in range(9)]
    assert sorted(numbers) == list(range(9))
    visits = Counter(mixed(position) for position in range(900))
    assert set(visits.values()) == {100}


@given(
    weights=st.lists(st.integers(min_value=1, max_value=50), min_size=1, max_size=6),
    seed=st.integers(min_value=0, max_value=3),
)
def test_shares_are_kept_at_every_point_and_no_visit_is_lost(weights: list[int], seed: int) -> None:
    sizes = [100_000] * len(weights)
    mixed = order(sizes, list(weights), seed)
    counts = Counter[int]()
    seen = set()
    for position in range(200):
        number = mixed(position)
        assert number not in seen
        seen.add(number)
        counts[number // 100_000] += 1
        for source, weight in enumerate(weights):
            share = Fraction(weight, sum(weights))
            assert abs(counts[source] - (position + 1) * share) <= len(weights)


def test_a_visit_hangs_on_its_position_alone() -> None:
    mixed = order([7, 11, 13], [0.1, 0.7, 0.2], seed=5)
    forward = [mixed(position) for position in range(100)]
    assert [
        order([7, 11, 13], [0.1, 0.7, 0.2], seed=5)(p) for p in reversed(range(100))
    ] == forward[::-1]
    assert [order([7, 11, 13], [0.1, 0.7, 0.2], seed=6)(p) for p in range(100)] != forward
    assert 0 <= mixed(10**30) < 31


def test_weights_mean_what_is_written() -> None:
    assert check_weights([0.1, 2], [1, 1]) == (Fraction(1, 10), Fraction(2))


def test_sources_of_no_size_are_refused() -> None:
    with pytest.raises(ValueError, match="no problem of entry 0"):
        check_weights([1, 1], [0, 1])
