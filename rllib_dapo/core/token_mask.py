"""Loss on the critical tokens alone: those where the policy was least certain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def entropy_threshold(entropies: Float[Tensor, "N"], *, keep_fraction: float) -> Float[Tensor, ""]:
    """`τ = k-th largest entropy, k = max(1, round(keep_fraction * N))`.

    So `entropy >= τ` keeps about that share of the tokens; those that tie with `τ` are kept too.

    Args:
        entropies: `[N]` entropies of all tokens with loss of the mini-batch, in nats; NaN is
            ignored.
        keep_fraction: Share of the tokens to keep, in (0, 1].

    Returns:
        The threshold, a scalar of the same type and device; -inf, which keeps everything, if there
        is no entropy.

    Source: "Beyond the 80/20 Rule" (arXiv 2506.01939).
    """
    known = entropies[~torch.isnan(entropies)]
    if not known.numel():
        return entropies.new_tensor(-torch.inf)
    keep = max(1, round(keep_fraction * known.numel()))
    # Not `torch.quantile`, which refuses more than 2^24 numbers.
    return known.kthvalue(known.numel() - keep + 1).values


def high_entropy_mask(
    entropy: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], threshold: Float[Tensor, ""]
) -> Bool[Tensor, "B T"]:
    """`mask and H >= τ`: the tokens with loss whose entropy reaches the threshold.

    Args:
        entropy: `[B, T]` entropies in nats.
        mask: `[B, T]` True where a token has loss.
        threshold: A scalar in nats, see `entropy_threshold`.

    Source: "Beyond the 80/20 Rule" (arXiv 2506.01939).
    """
    return mask & (entropy >= threshold)
