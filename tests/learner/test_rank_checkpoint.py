"""Fingerprints of weights; what a Learner saves and restores is tested with whole checkpoints."""

from __future__ import annotations

import pytest
import torch

from rllib_dapo.learner.rank_checkpoint import fingerprint


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_fingerprint_changes_with_the_last_bit_of_any_weight(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(7, 9, generator=generator).to(dtype),
        torch.randn(20_000, generator=generator).to(dtype),
    ]
    before = fingerprint(weights)
    for weight, place in ((weights[0], (3, 3)), (weights[1], (19_999,))):
        kept = weight[place].clone()
        weight[place] = (
            torch.nextafter(kept.float(), torch.tensor(9.0)).to(dtype)
            if dtype != torch.bfloat16
            else -kept
        )
        assert weight[place] != kept
        assert fingerprint(weights) != before
        weight[place] = kept

    assert fingerprint(weights) == before


def test_a_fingerprint_does_not_depend_on_the_number_of_threads() -> None:
    """A checkpoint may be restored on another machine, where sums are taken in another order."""
    weights = [torch.randn(1_000_003, generator=torch.Generator().manual_seed(0))]
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(fingerprint(weights))
    assert found[0] == found[1] == found[2]
