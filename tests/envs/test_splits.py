from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_dapo.envs.splits import DatasetOrder, split_of


@given(st.integers(1, 200), st.integers(0, 2**40), st.integers(0, 50))
def test_every_epoch_visits_every_problem_once(size: int, seed: int, epoch: int) -> None:
    order = DatasetOrder(size=size, seed=seed)
    assert sorted(order(epoch * size + i) for i in range(size)) == list(range(size))


def test_epochs_and_seeds_differ_in_their_order() -> None:
    epochs = [
        [DatasetOrder(size=50, seed=s)(e * 50 + i) for i in range(50)]
        for s in range(3)
        for e in range(3)
    ]
    assert len({tuple(epoch) for epoch in epochs}) == 9
    assert list(range(50)) not in epochs


def test_the_order_hangs_on_the_position_alone() -> None:
    order = DatasetOrder(size=37, seed=5)
    forward = [order(i) for i in range(400)]
    assert [order(i) for i in reversed(range(400))] == forward[::-1]
    assert [DatasetOrder(size=37, seed=5)(i) for i in range(400)] == forward


def test_a_position_far_away_is_as_good_as_any() -> None:
    assert 0 <= DatasetOrder(size=7, seed=0)(10**30) < 7


@given(st.text(max_size=50), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_fraction_only_adds_to_what_is_held_out(key: str, one: float, two: float) -> None:
    low, high = sorted((one, two))
    if split_of(key, low) == "heldout":
        assert split_of(key, high) == "heldout"


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
def test_the_held_out_share_is_the_fraction_asked_for(fraction: float) -> None:
    counts = Counter(split_of(f"problem {i}", fraction) for i in range(10_000))
    assert counts["heldout"] / 10_000 == pytest.approx(fraction, abs=0.02)


def test_the_split_of_a_text_never_changes() -> None:
    # Written down once: a change here would let problems of old runs leak from one split into the
    # other.
    assert [split_of(str(i), 0.5) for i in range(8)] == [
        *("train", "train", "heldout", "train", "heldout", "train", "heldout", "train")
    ]


def test_a_lone_surrogate_has_a_split() -> None:
    assert split_of("\ud800", 0.5) in ("train", "heldout")
