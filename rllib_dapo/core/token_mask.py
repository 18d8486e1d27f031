"""Loss on the critical tokens alone: those where the policy was least certain (arXiv 2506.01939)."""

from __future__ import annotations

import torch
from torch import Tensor


def entropy_threshold(entropies: Tensor, *, keep_fraction: float) -> Tensor:
    """The entropy that a share of the tokens reaches, so that `entropy >= threshold` keeps about that share.

    It is the entropy of the k-th most uncertain token, where k is `keep_fraction` of their number,
    to the nearest, at least 1. Tokens that tie with it are kept too. A selection, not
    `torch.quantile`, which refuses more than 2^24 numbers.

    Args:
        entropies: `[N]` of all tokens with loss of the mini-batch; NaN is left out.
        keep_fraction: The share to keep, in (0, 1].

    Returns:
        A scalar of the same type and device; -inf, which keeps everything, where there is no
        entropy.
    """
    known = entropies[~torch.isnan(entropies)]
    if not known.numel():
        return entropies.new_tensor(-torch.inf)
    keep = max(1, round(keep_fraction * known.numel()))
    return known.kthvalue(known.numel() - keep + 1).values


def high_entropy_mask(entropy: Tensor, mask: Tensor, threshold: Tensor) -> Tensor:
    """The tokens of the mask whose entropy is at least the threshold.

    Args:
        entropy: `[B, T]` in nats.
        mask: `[B, T]` bool, True where a token has loss.
        threshold: A scalar, see `entropy_threshold`.

    Returns:
        `[B, T]` bool.
    """
    return mask & (entropy >= threshold)
