"""Buckets: every weight once, where both sides expect it, in the bits that it has."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rllib_dapo.weight_transfer.wire.buckets import (
    ALIGNMENT,
    WeightMeta,
    metas_of,
    plan_buckets,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def meta(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> WeightMeta:
    return WeightMeta(name, dtype, shape)


@given(
    sizes=st.lists(st.integers(0, 200), max_size=12),
    max_bytes=st.integers(1, 600),
    dtype=st.sampled_from([torch.bfloat16, torch.float32, torch.int64]),
)
def test_every_weight_is_in_one_bucket_and_no_bucket_is_larger_than_it_may_be(
    sizes: list[int], max_bytes: int, dtype: torch.dtype
) -> None:
    weights = [meta(str(i), size, dtype=dtype) for i, size in enumerate(sizes)]
    buckets = plan_buckets(weights, max_bytes=max_bytes)

    assert [weight for bucket in buckets for weight in bucket.weights] == weights
    for bucket in buckets:
        assert bucket.nbytes <= max_bytes or len(bucket.weights) == 1
        ends = [o + w.nbytes for w, o in zip(bucket.weights, bucket.offsets, strict=True)]
        assert all(offset % ALIGNMENT == 0 for offset in bucket.offsets)
        assert all(end <= start for end, start in zip(ends, bucket.offsets[1:], strict=False))
        assert ends[-1] == bucket.nbytes


def test_a_weight_larger_than_a_bucket_travels_alone() -> None:
    buckets = plan_buckets([meta("a", 2), meta("b", 100), meta("c", 2)], max_bytes=64)
    assert [[weight.name for weight in bucket.weights] for bucket in buckets] == [
        ["a"],
        ["b"],
        ["c"],
    ]


def test_weights_come_out_as_they_went_in_and_are_converted_on_the_way() -> None:
    generator = torch.Generator().manual_seed(0)
    given_weights = {
        "matrix": torch.randn(3, 5, generator=generator),
        "scalar": torch.tensor(2.5),
        "counts": torch.tensor([1, 2, 3]),
        "transposed": torch.randn(4, 6, generator=generator).T,
    }
    metas = [
        WeightMeta(n, torch.bfloat16 if t.is_floating_point() else t.dtype, tuple(t.shape))
        for n, t in given_weights.items()
    ]
    (bucket,) = plan_buckets(metas, max_bytes=10_000)
    buffer = torch.full((bucket.nbytes + 9,), 255, dtype=torch.uint8)
    bucket.fill(buffer, given_weights.items())

    for name, tensor in bucket.views(buffer):
        expected = given_weights[name]
        assert torch.equal(
            tensor, expected.bfloat16() if expected.is_floating_point() else expected
        )
    assert (buffer[bucket.nbytes :] == 255).all()


@pytest.mark.parametrize(
    "weights",
    [
        [],
        [("other", torch.ones(2))],
        [("a", torch.ones(3))],
    ],
)
def test_other_weights_than_were_announced_are_refused(
    weights: list[tuple[str, torch.Tensor]],
) -> None:
    (bucket,) = plan_buckets([meta("a", 2)], max_bytes=64)
    with pytest.raises(ValueError, match="changed since they were announced") as caught:
        bucket.fill(torch.empty(bucket.nbytes, dtype=torch.uint8), weights)
    assert "\n" not in str(caught.value)


def test_a_message_about_weights_describes_them() -> None:
    assert metas_of(["a", "b"], ["bfloat16", "int64"], [[2, 3], []]) == [
        meta("a", 2, 3, dtype=torch.bfloat16),
        meta("b", dtype=torch.int64),
    ]
