"""A Learner's weights, cut into pieces as they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from hypothesis import given
from hypothesis import strategies as st

from rllib_dapo.learner.weight_source import LearnerWeights
from rllib_dapo.weight_transfer.pieces import WeightPieces


def pieces_of(
    weights: dict[str, torch.Tensor], *, max_bytes: int, dtype: torch.dtype = torch.float32
) -> WeightPieces:
    source = LearnerWeights(lambda: iter(weights.items()), dtype=dtype, converted=False)
    return WeightPieces(source, max_bytes=max_bytes)


@given(
    sizes=st.lists(st.integers(0, 200), max_size=12),
    max_bytes=st.integers(1, 600),
    dtype=st.sampled_from([torch.bfloat16, torch.float32]),
)
def test_pieces_hold_all_weights_in_their_order(
    sizes: list[int], max_bytes: int, dtype: torch.dtype
) -> None:
    weights = {str(i): torch.arange(size) / 7 for i, size in enumerate(sizes)}
    pieces = pieces_of(weights, max_bytes=max_bytes, dtype=dtype)
    pieces.begin()

    found = {}
    for _ in range(len(pieces)):
        bucket, stored = pieces.make_next()
        assert stored.nbytes == bucket.nbytes
        assert stored.nbytes <= max_bytes or len(bucket.weights) == 1
        found |= {n: tensor.clone() for n, tensor in bucket.views(torch.from_numpy(stored))}
    pieces.end()
    assert list(found) == list(weights)
    assert all(torch.equal(found[name], weights[name].to(dtype)) for name in weights)


def test_pieces_are_made_one_at_a_time_and_anew_from_the_weights_of_then() -> None:
    """No process is to hold a second copy of all weights."""
    made: list[int] = []
    value = [1.0]

    def weights() -> Iterator[tuple[str, torch.Tensor]]:
        for number in range(10):
            made.append(number)
            yield str(number), torch.full((4,), value[0])

    source = LearnerWeights(weights, dtype=torch.float32, converted=False)
    pieces = WeightPieces(source, max_bytes=16)
    assert len(pieces) == len(made) == 10  # what they are is found out by making them once

    for value[0] in (2.0, 3.0):
        made.clear()
        pieces.begin()
        _, stored = pieces.make_next()
        assert len(made) == 1
        assert (stored.view("float32") == value[0]).all()
        pieces.end()
        # Under ZeRO the other Learners gather all of them, and would wait for this one.
        assert len(made) == 10


def test_the_memory_of_two_pieces_serves_all() -> None:
    """One is made while whoever was given the last one still looks at it."""
    places = set()
    pieces = pieces_of({str(i): torch.ones(4) for i in range(40)}, max_bytes=256)
    for number, (bucket, stored) in enumerate(pieces):
        assert len(bucket.weights) == 4
        places.add(stored.ctypes.data)
        assert len(places) <= min(number + 1, 2)


def test_what_fails_is_kept_for_the_end_and_the_next_transfer_begins_anew() -> None:
    fails = [False]

    def weights() -> Iterable[tuple[str, torch.Tensor]]:
        yield "a", torch.ones(4)
        if fails[0]:
            raise RuntimeError("no memory left")
        yield "b", torch.ones(4)

    source = LearnerWeights(lambda: iter(weights()), dtype=torch.float32, converted=False)
    pieces = WeightPieces(source, max_bytes=16)

    def told() -> list[bool | str]:
        pieces.begin()
        made = [pieces.make_next() for _ in range(2)]
        try:
            pieces.end()
        except RuntimeError as error:
            made.append(str(error))
        return [piece if isinstance(piece, str) else True for piece in made]

    assert told() == [True, True]
    fails[0] = True
    assert told() == [True, "no memory left", "no memory left"]
    fails[0] = False
    assert told() == [True, True]
