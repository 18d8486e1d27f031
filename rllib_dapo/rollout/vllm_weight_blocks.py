"""What a worker of vLLM holds of each weight, whatever form vLLM has brought it into.

It fuses projections, pads vocabularies, cuts layers over workers, and on CPUs packs matrices into
forms that nothing can read. So there a matrix is read through the very product that samples: with
unit vectors, that gives columns, bit for bit.

Whether a layout has been understood is not decided here: an engine that has read the model's folder
by itself must give the Learner's checksums, and what does not is never compared (`weight_arrival`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from rllib_dapo.weight_checksums import BlockPart, WeightBlock, as_matrix, checksum, to_numbers

Span = tuple[int, int]

# Reads a module's columns: path of the module, "weight" or "bias", and a span of its own columns.
Read = Callable[[str, str, int, int], Tensor | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where a weight of the checkpoint is in vLLM's model.

    Attributes:
        holder: Path of the module.
        leaf: Name of the parameter in it.
        shard: Which of the weights that the parameter was fused of.
    """

    holder: str
    leaf: str
    shard: int


@torch.inference_mode()
def held_parts(model: nn.Module, blocks: Sequence[WeightBlock]) -> list[BlockPart]:
    """The parts of some blocks that this worker has, with their checksums.

    Args:
        model: vLLM's model.
        blocks: Blocks of the checkpoint's weights.

    Returns:
        Nothing for a block that is elsewhere, or that cannot be read.
    """
    modules: dict[str, Any] = dict(model.named_modules())

    @lru_cache(maxsize=2)  # weights that are fused come one after the other
    def read(holder: str, leaf: str, start: int, stop: int) -> Tensor | None:
        return _read_columns(modules[holder], leaf, start, stop)

    found: list[tuple[str, str, Span, Span]] = []
    sums: list[Tensor] = []
    for block, place in _places(model, modules, blocks):
        part = _values(modules[place.holder], place, block, read)
        if part is None:
            continue
        values, first_row, first_column = part
        rows = (first_row, first_row + values.shape[0])
        columns = (first_column, first_column + values.shape[1])
        found.append((block.name, place.holder, rows, columns))
        sums.append(checksum(values, first_row=first_row, first_column=first_column))

    return [
        BlockPart(name=name, holder=holder, rows=rows, columns=columns, checksum=number)
        for (name, holder, rows, columns), number in zip(found, to_numbers(sums), strict=True)
    ]


def _places(
    model: Any, modules: dict[str, Any], blocks: Sequence[WeightBlock]
) -> Iterator[tuple[WeightBlock, _Place]]:
    """Where blocks are: none for what vLLM has under a name of another kind, or another worker."""
    # A tied weight is held by several modules, and on CPUs each of them has a packed copy.
    holders: dict[int, list[str]] = {}
    for path, module in modules.items():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), []).append(path)

    packed = {
        part: (whole, shard)
        for whole, parts in getattr(model, "packed_modules_mapping", {}).items()
        for shard, part in enumerate(parts)
    }
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    rename = mapper.get_rename_mapper().map_name if mapper is not None else str

    for block in blocks:
        path, _, leaf = (rename(block.name) or "").rpartition(".")
        shard = 0
        if path not in modules:
            above, dot, last = path.rpartition(".")
            whole, shard = packed.get(last, (last, 0))
            path = f"{above}{dot}{whole}"
        parameter = getattr(modules.get(path), leaf, None)
        if isinstance(parameter, nn.Parameter):
            for holder in holders[id(parameter)]:
                yield block, _Place(holder=holder, leaf=leaf, shard=shard)


def _values(
    module: Any, place: _Place, block: WeightBlock, read: Read
) -> tuple[Tensor, int, int] | None:
    """What a module has of a block, with its first row and column in the checkpoint's tensor."""
    first_row, offset, count = _rows(module, place.shard, block)
    begin, end = _span_of_columns(module, place.leaf, block)
    start, stop = max(block.start, begin), min(block.stop, end)
    if start >= stop or count <= 0 or first_row + count > block.rows:
        return None

    values = read(place.holder, place.leaf, start - begin, stop - begin)
    if values is None or values.shape[1] != stop - start:
        return None
    values = values[offset : offset + count]
    return (values, first_row, start) if len(values) == count else None


def _rows(module: Any, shard: int, block: WeightBlock) -> tuple[int, int, int]:
    """First row of the checkpoint's tensor that a module has, its place here, and their number."""
    if indices := getattr(module, "shard_indices", None):  # of a vocabulary, with padding behind
        return indices.org_vocab_start_index, 0, indices.num_org_elements

    sizes = getattr(module, "output_partition_sizes", None)
    if not sizes or shard >= len(sizes):
        return 0, 0, block.rows
    count = int(sizes[shard])
    rank = module.tp_rank
    if shard > 0:  # keys and values that are fewer than workers are held several times
        rank //= getattr(module, "num_kv_head_replicas", 1)
    return (rank * count if count < block.rows else 0), sum(sizes[:shard]), count


def _span_of_columns(module: Any, leaf: str, block: WeightBlock) -> Span:
    """The columns of the checkpoint's tensor that a module has."""
    held = getattr(module, "input_size_per_partition", None)
    if held is None or leaf == "bias" or held == module.input_size:
        return 0, max(block.stop, held or 0)
    return module.tp_rank * held, (module.tp_rank + 1) * held


def _read_columns(module: Any, leaf: str, start: int, stop: int) -> Tensor | None:
    """`[rows, stop - start]` columns of a parameter; None if they are not to be had."""
    parameter = getattr(module, leaf)
    method: Any = getattr(module, "quant_method", None)
    if method is not None and not type(method).__name__.startswith("Unquantized"):
        return None

    if leaf != "weight" or not _is_packed(module):
        if leaf == "bias" and method is not None:  # kernels for CPUs may have widened it
            parameter = parameter.to(module.weight.dtype)
        return as_matrix(parameter)[:, start:stop]

    units = torch.zeros(stop - start, _inputs(module), dtype=parameter.dtype)
    units[:, start:stop].fill_diagonal_(1)
    return method.apply(module, units).t()


def _is_packed(module: Any) -> bool:
    """Whether a CPU's kernel computes with a packed copy of the weight."""
    from vllm.model_executor.layers.vocab_parallel_embedding import (
        ParallelLMHead,
        VocabParallelEmbedding,
    )

    if isinstance(module, VocabParallelEmbedding) and not isinstance(module, ParallelLMHead):
        return False  # rows are looked up in the weight itself
    return hasattr(module, "cpu_linear")


def _inputs(module: Any) -> int:
    """Number of inputs of a linear layer, or of a head, on this worker."""
    return getattr(module, "input_size_per_partition", None) or module.embedding_dim
