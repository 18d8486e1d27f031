"""What a Learner really trains, as checksums that engines are compared with.

They are taken from the parameters themselves and not from what is sent: a transfer that sends
something else, whatever it is, must not be compared with itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rllib_dapo.learner.collectives import gather, rank
from rllib_dapo.weight_checksums import (
    MODULUS,
    WeightBlock,
    as_matrix,
    checksum,
    choose_block,
    to_numbers,
)

if TYPE_CHECKING:
    from rllib_dapo.learner.module import CausalLMModule

# By name: the block that was looked at, and its checksum.
BlockChecksums = Mapping[str, tuple[WeightBlock, int]]


@torch.no_grad()
def learner_checksums(
    module: CausalLMModule, *, elements: int, turn: int, of_adapter: bool = False
) -> BlockChecksums:
    """Checksums of the weights in the type that an engine has them in.

    Every Learner makes the same call, as shards have to be added up.

    Args:
        module: The Learner's module.
        elements: See `choose_block`.
        turn: See `choose_block`.
        of_adapter: Whether engines hold the adapter beside its base, and not both as one.

    Returns:
        Checksums of all parameters by their names in a checkpoint. Where weights are sharded and
        the checkpoint's are made of several, as of an adapter and its base, there are none: nobody
        holds one whole.
    """
    dtype = module.settings.dtype
    if module.is_sharded:
        return _of_shards(module, dtype, elements=elements, turn=turn, of_adapter=of_adapter)
    if rank() > 0:
        return {}

    blocks: list[WeightBlock] = []
    sums: list[Tensor] = []
    for name, weight in _whole(module, of_adapter=of_adapter):
        block = choose_block(name, weight.shape, elements=elements, turn=turn)
        columns = as_matrix(weight)[:, block.start : block.stop].to(dtype)
        columns = columns * _scaling(module, name, of_adapter=of_adapter)
        blocks.append(block)
        sums.append(checksum(columns, first_column=block.start))

    found = zip(blocks, to_numbers(sums), strict=True)
    return {block.name: (block, number) for block, number in found}


def _whole(module: CausalLMModule, *, of_adapter: bool) -> Iterable[tuple[str, Tensor]]:
    """What an engine holds: the adapter, all weights with it in them, or the parameters."""
    if of_adapter:
        return _adapter(module)
    if module.adapter is not None:
        return module.whole_weights()
    own = module.lm.named_parameters(remove_duplicate=False)
    return module.checkpoint_format.to_checkpoint(own)


def _adapter(module: CausalLMModule) -> Iterator[tuple[str, nn.Parameter]]:
    """The adapter's parameters by their names in peft's files."""
    assert module.adapter is not None
    return module.adapter.named_parameters()


def _scaling(module: CausalLMModule, name: str, *, of_adapter: bool) -> float:
    """What an engine multiplies a tensor with once, in its own type: `B` with the scaling."""
    if not of_adapter or module.adapter is None or ".lora_B." not in name:
        return 1.0
    return module.adapter.settings.scaling


def _of_shards(
    module: CausalLMModule, dtype: torch.dtype, *, elements: int, turn: int, of_adapter: bool
) -> BlockChecksums:
    """The same where each Learner holds a run of every flattened weight: nothing is gathered."""
    if not of_adapter and (module.checkpoint_format.converts or module.adapter is not None):
        return {}
    own = module.lm.named_parameters(remove_duplicate=False)
    named: Iterable[tuple[str, Tensor]] = (
        _adapter(module) if of_adapter else module.checkpoint_format.to_checkpoint(own)
    )

    blocks: list[WeightBlock] = []
    sums: list[Tensor] = []
    for name, shape, first_row, rows in _sharded_rows(named):
        block = choose_block(name, shape, elements=elements, turn=turn)
        columns = rows[:, block.start : block.stop].to(dtype)
        columns = columns * _scaling(module, name, of_adapter=of_adapter)
        blocks.append(block)
        sums.append(checksum(columns, first_row=first_row, first_column=block.start))

    parts = gather(to_numbers(sums))
    return {
        block.name: (block, sum(numbers) % MODULUS)
        for block, *numbers in zip(blocks, *parts, strict=True)
    }


def _sharded_rows(
    named: Iterable[tuple[str, Tensor]],
) -> Iterator[tuple[str, torch.Size, int, Tensor]]:
    """Name, whole shape, and this Learner's rows of every weight, with the first one's number.

    What other Learners hold of a row at either end is 0 here, and counts for nothing.
    """
    for name, parameter in named:
        shape = getattr(parameter, "ds_shape", parameter.shape)
        shard = getattr(parameter, "ds_tensor", None)
        if shard is None:  # DeepSpeed shards none, or leaves small ones alone
            rows = as_matrix(parameter)
            yield name, shape, 0, rows if rank() == 0 else torch.zeros_like(rows)
            continue

        # Shards are of equal size, and the last ones may reach beyond the end.
        start = rank() * shard.numel()
        held = shard.flatten()[: max(0, shape.numel() - start)]
        columns = torch.Size(shape[1:]).numel()
        first_row, before = divmod(start, columns)
        rows = held.new_zeros(-(-(before + len(held)) // columns), columns)
        rows.flatten()[before : before + len(held)] = held
        yield name, shape, first_row, rows
