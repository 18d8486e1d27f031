"""Products with adapters on CPUs, a batch of tokens at a time.

vLLM's own copies the matrices of a token's adapter for each token: with 256 responses of 9 adapters
that takes longer than the model itself. Here the tokens of an adapter lie beside each other, and
are multiplied with it at once. On GPUs vLLM has kernels that do the same.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform


class GroupedProducts(PunicaWrapperCPU):
    """vLLM's products with several adapters, where layers that are linear go by groups of tokens.

    A token without an adapter is left as it is. (vLLM's own takes the last adapter for it.)
    """

    _order: Tensor | None = None  # of tokens, by adapter; None where they lie so
    _groups: tuple[tuple[int, int, int], ...] = ()  # adapter's place, first token, end

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Notes which tokens of the next batch belong to which adapter; see vLLM's own."""
        super().update_metadata(*args, **kwargs)

        places, order = torch.sort(self.token_lora_indices, stable=True)
        is_sorted = bool((order[1:] > order[:-1]).all())
        self._order = None if is_sorted else order

        of_tokens = places.tolist()
        cuts = [0, *(i for i, (a, b) in enumerate(pairwise(of_tokens), 1) if a != b)]
        bounds = pairwise([*cuts, len(of_tokens)])
        self._groups = tuple(
            (of_tokens[begin], begin, end)
            for begin, end in bounds
            if begin < end and of_tokens[begin] >= 0
        )

    def add_lora_linear(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **kwargs: Any,
    ) -> None:
        """Adds `scale * x A' B'` to `y`, with the matrices of each token's adapter.

        Args:
            y: `[..., outputs]`, changed in place.
            x: `[..., inputs]`.
            lora_a_stacked: For each slice of the outputs `[adapters, 1, rank, inputs]`.
            lora_b_stacked: For each slice of the outputs `[adapters, 1, its outputs, rank]`.
            scale: Factor.
            output_slices: Outputs of each slice, which follow each other.
            **kwargs: vLLM's, for other kernels.
        """
        x, outputs = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        rows = x if self._order is None else x[self._order]

        start = 0
        for a, b, size in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            added = outputs.new_zeros(len(rows), size)
            for place, begin, end in self._groups:
                # In float32 between the two matrices, like vLLM's own.
                between = (rows[begin:end].float() @ a[place, 0].float().T).mul_(scale)
                torch.mm(between.to(y.dtype), b[place, 0].to(y.dtype).T, out=added[begin:end])

            part = outputs[:, start : start + size]
            if self._order is None:
                part += added
            else:
                part.index_add_(0, self._order, added)
            start += size


def use_grouped_products() -> None:
    """Has vLLM's workers on CPUs that start in this process multiply in groups."""
    if current_platform.is_cpu():
        name = f"{GroupedProducts.__module__}.{GroupedProducts.__qualname__}"
        type(current_platform).get_punica_wrapper = classmethod(lambda cls: name)
