"""What some models make of their logits after the output projection: a scale, a soft cap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, kw_only=True, slots=True)
class LogitAdjustment:
    """`f(x) = c tanh(s x / c)`, and `f(x) = s x` where there is no cap.

    Attributes:
        scale: The factor `s`: 1 in most models; Cohere, Granite and Falcon-H1 have others.
        cap: The cap `c`, which no logit's absolute value exceeds; None in most models, 30 in
            Gemma 2.
    """

    scale: float = 1.0
    cap: float | None = None

    @property
    def is_identity(self) -> bool:
        """Whether logits stay as they are."""
        return self.scale == 1.0 and self.cap is None

    def __call__(self, logits: Float[Tensor, "N V"]) -> Float[Tensor, "N V"]:
        """`f(logits)`, with gradient, in at least float32 where anything is changed.

        Args:
            logits: `[N, V]` outputs of the projection.

        Source: soft caps are those of Gemma 2 (arXiv 2408.00118, Section 2).
        """
        if self.is_identity:
            return logits

        scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) * self.scale
        return scaled if self.cap is None else self.cap * torch.tanh(scaled / self.cap)

    def apply_(self, logits: Float[Tensor, "N V"]) -> Float[Tensor, "N V"]:
        """`f(logits)` in place, without gradient: for the tiles of `core.linear_logprob`.

        Args:
            logits: `[N, V]` outputs of the projection in at least float32; overwritten.

        Source: as `__call__`.
        """
        if self.scale != 1.0:
            logits.mul_(self.scale)
        if self.cap is not None:
            logits.div_(self.cap).tanh_().mul_(self.cap)
        return logits

    def slope(self, adjusted: Float[Tensor, "N V"]) -> Float[Tensor, "N V"] | float:
        """`f'(x) = s (1 - (f(x) / c)²)`, from the value of `f` itself.

        Args:
            adjusted: `[N, V]` values of `f`.

        Returns:
            `[N, V]` slopes; the number `s` alone where there is no cap.

        Source: the derivative of `tanh` is `1 - tanh²`.
        """
        if self.cap is None:
            return self.scale
        return adjusted.div(self.cap).square_().neg_().add_(1.0).mul_(self.scale)


IDENTITY = LogitAdjustment()
