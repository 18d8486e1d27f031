"""The tokens that top-k, top-p and min-p leave to be sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

# Logits that are sorted at a time. Sorting takes a few times their memory, and for all rows of a
# large vocabulary that would be more than the logits' own.
WORDS_AT_A_TIME = 2**24


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingSet:
    """The set `K` of tokens that are sampled from, as vLLM cuts it: min-p, then top-k, then top-p.

    For logits `x` after temperature and `p = softmax(x)`:

    1. min-p keeps `{j : p_j >= min_p * max(p)}`;
    2. top-k keeps of these the `top_k` largest, and what equals the smallest of them;
    3. top-p keeps of these, with their probabilities renormalised, the fewest largest that sum up
       to `top_p`.

    Attributes:
        top_k: Number of tokens; 0 keeps all.
        top_p: Probability mass, in (0, 1]; 1 keeps all.
        min_p: Share of the largest probability, in [0, 1]; 0 keeps all.
    """

    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether every token may be sampled."""
        return self.top_k < 1 and self.top_p >= 1.0 and self.min_p <= 0.0

    def neighbours(self, margin: float) -> tuple[SamplingSet, SamplingSet]:
        """A slightly wider rule and a slightly narrower one.

        Where two sides round otherwise, a token at the edge of a set may be in it for one of them
        alone. A narrower top-k makes room for a sampled token that the k-th has pushed out.

        Args:
            margin: By how much `top_p` differs, and `min_p` as a share of itself.

        Source: `learner.logprob_gap`, which must not take an edge for a fault.
        """

        def changed(by: float, top_k: int) -> SamplingSet:
            top_p = self.top_p if self.top_p >= 1.0 else min(1.0, max(0.0, self.top_p + by))
            return SamplingSet(top_k=top_k, top_p=top_p, min_p=self.min_p * (1.0 - by))

        narrower_k = max(1, self.top_k - 1) if self.top_k else 0
        return changed(margin, self.top_k), changed(-margin, narrower_k)

    def members(self, scaled: Float[Tensor, "N V"]) -> Bool[Tensor, "N V"]:
        """`[j in K]`.

        Args:
            scaled: `[N, V]` logits `x` after temperature, in at least float32.

        Returns:
            `[N, V]`, with at least one member in each row.

        Source: `Sampler.sample` and `apply_top_k_top_p_pytorch` of vLLM 0.32.
        """
        rows = max(1, WORDS_AT_A_TIME // max(1, scaled.shape[-1]))
        return torch.cat([self._members(some) for some in scaled.split(rows)])

    def restrict(
        self, logits: Float[Tensor, "N V"], targets: Int[Tensor, "N"], *, temperature: float
    ) -> Float[Tensor, "N V"]:
        """`x_j` for `j` in `K` or `j = y`, and `-inf` for all others; with gradient to `x`.

        A softmax over what is returned is `p_j / Σ_{i in K} p_i`: the probabilities that were
        sampled from. The gradient of its logarithm flows through that sum, but not through the
        choice of `K`, which is constant wherever it has a gradient.

        The token `y` was sampled, so it was in the engine's set. Where rounding puts it just
        outside of ours, it is taken in: else its probability would be 0.

        Args:
            logits: `[N, V]` logits before temperature.
            targets: `[N]` sampled token ids `y`.
            temperature: Sampling temperature, positive.

        Source: the distribution that vLLM's `logprobs_mode="processed_logprobs"` reports.
        """
        if self.is_whole:
            return logits

        dtype = torch.promote_types(logits.dtype, torch.float32)
        outside = ~self.members(logits.detach().to(dtype) / temperature)
        outside.scatter_(-1, targets[:, None], False)
        return logits.masked_fill(outside, -torch.inf)

    def _members(self, scaled: Float[Tensor, "n V"]) -> Bool[Tensor, "n V"]:
        left = scaled
        if self.min_p > 0.0:
            least = left.amax(-1, keepdim=True) + math.log(self.min_p)
            left = left.masked_fill(left < least, -torch.inf)

        if 0 < self.top_k < left.shape[-1]:
            least = left.topk(self.top_k, dim=-1).values[:, -1:]
            left = left.masked_fill(left < least, -torch.inf)

        if self.top_p < 1.0:
            ascending, order = left.sort(dim=-1)
            is_dropped = ascending.softmax(-1).cumsum(-1) <= 1.0 - self.top_p
            is_dropped[:, -1] = False  # the likeliest token stays
            left = left.masked_fill(is_dropped.scatter(-1, order, is_dropped), -torch.inf)

        return left > -torch.inf


EVERY_TOKEN = SamplingSet()
