"""Products with adapters on CPUs, a batch of tokens at a time.

vLLM's own copies the matrices of a token's adapter for each token: with 256 responses of 9 adapters
that takes longer than the model itself. Here the tokens of an adapter lie beside each other, and
are multiplied with it at once. On GPUs vLLM has kernels that do the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform


class GroupedProducts(PunicaWrapperCPU):
    """vLLM's products with several adapters, where layers that are linear go by blocks of tokens.

    A block holds equally many tokens of one adapter, its last ones made up where an adapter has
    fewer: so all blocks are multiplied in one batched product, and at most as many tokens are made
    up as there are.

    A token without an adapter is left as it is. (vLLM's own takes the last adapter for it.)
    """

    # Of the next batch: where its blocks' tokens come from, whose they are, and back again.
    _tokens: Tensor  # [blocks * size]: the token in each place
    _adapters: Tensor  # [blocks]: place of the block's adapter
    _adapted: Tensor  # [tokens with an adapter]
    _places: Tensor  # [tokens with an adapter]: where in the blocks each of them is

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Lays out the tokens of the next batch in blocks; see vLLM's own."""
        super().update_metadata(*args, **kwargs)

        of_tokens = self.token_lora_indices
        self._adapted = torch.nonzero(of_tokens >= 0)[:, 0]
        adapters, of_adapted, counts = torch.unique(
            of_tokens[self._adapted], return_inverse=True, return_counts=True
        )
        # Equally many blocks of this size as adapters, if each of these has equally many tokens.
        size = max(1, -(-len(self._adapted) // max(1, len(adapters))))
        blocks = -(-counts // size)
        self._adapters = adapters.repeat_interleave(blocks)

        order = torch.argsort(of_adapted, stable=True)
        before = (counts.cumsum(0) - counts)[of_adapted[order]]
        first_place = (blocks.cumsum(0) - blocks)[of_adapted[order]] * size
        places = first_place + torch.arange(len(order)) - before
        self._places = torch.empty_like(places).index_copy_(0, order, places)
        self._tokens = of_tokens.new_zeros(len(self._adapters) * size)
        self._tokens[self._places] = self._adapted

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
        if not len(self._adapted):
            return
        x, outputs = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        rows = x.index_select(0, self._tokens).view(len(self._adapters), -1, x.shape[-1])

        # In float32 between the two matrices, like vLLM's own.
        a = torch.cat([one[:, 0] for one in lora_a_stacked], dim=1).index_select(0, self._adapters)
        between = torch.bmm(rows.float(), a.float().transpose(1, 2)).mul_(scale).to(y.dtype)

        start = rank = 0
        for a_slice, b_slice, size in zip(
            lora_a_stacked, lora_b_stacked, output_slices, strict=True
        ):
            b = b_slice[:, 0].index_select(0, self._adapters).to(y.dtype)
            columns = slice(rank, rank := rank + a_slice.shape[2])
            added = torch.bmm(between[..., columns], b.transpose(1, 2)).view(-1, size)

            part = outputs[:, start : (start := start + size)]
            added = added.index_select(0, self._places)
            if len(self._adapted) == len(outputs):
                part += added
            else:
                part.index_add_(0, self._adapted, added)


def use_grouped_products() -> None:
    """Has vLLM's workers on CPUs that start in this process multiply in groups."""
    if current_platform.is_cpu():
        name = f"{GroupedProducts.__module__}.{GroupedProducts.__qualname__}"
        type(current_platform).get_punica_wrapper = classmethod(lambda cls: name)
