"""What vLLM's workers can do with adapters beyond vLLM: take them from memory, and tell of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rllib_dapo.weight_checksums import BlockPart, WeightBlock, checksum, to_numbers


class AdapterReceiver:
    """Methods that vLLM adds to each of its workers (its setting `worker_extension_cls`)."""

    model_runner: Any
    add_lora: Any
    remove_lora: Any

    def take_adapter(
        self, name: str, number: int, config: Mapping[str, Any], weights: Mapping[str, Tensor]
    ) -> None:
        """Loads an adapter in vLLM's own way, which is from a folder that is gone afterwards.

        Args:
            name: vLLM's name for it.
            number: vLLM's number for it.
            config: Of peft's `adapter_config.json`.
            weights: Of peft's `adapter_model.safetensors`.

        Raises:
            RuntimeError: If vLLM does not load it.
        """
        from safetensors.torch import save_file
        from vllm.lora.request import LoRARequest

        with tempfile.TemporaryDirectory(prefix="rllib-dapo-adapter-") as folder:
            Path(folder, "adapter_config.json").write_text(json.dumps(dict(config)))
            contiguous = {key: tensor.contiguous() for key, tensor in weights.items()}
            save_file(contiguous, Path(folder, "adapter_model.safetensors"))
            if not self.add_lora(LoRARequest(name, number, folder)):
                raise RuntimeError(f"vLLM has not loaded the adapter {name}")

    def drop_adapter(self, number: int) -> None:
        """Forgets an adapter.

        Args:
            number: vLLM's number for it.
        """
        self.remove_lora(number)

    def layers_with_adapters(self) -> list[str]:
        """Last names of the checkpoint's layers on which vLLM takes adapters."""
        manager = self.model_runner.lora_manager._adapter_manager
        packed = manager.packed_modules_mapping
        names: set[str] = set()
        for path in manager.modules:
            leaf = path.rpartition(".")[2]
            names |= set(packed.get(leaf, [leaf]))
        return sorted(names)

    @torch.inference_mode()
    def adapter_checksums(
        self, number: int, blocks: Iterable[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Checksums of the matrices that this worker multiplies with.

        Args:
            number: vLLM's number for the adapter.
            blocks: Fields of each `WeightBlock`, whose names are those in peft's files.

        Returns:
            Fields of each `BlockPart`; nothing for what is elsewhere, or not in use.
        """
        manager = self.model_runner.lora_manager._adapter_manager
        if number not in manager.lora_index_to_id:
            return []
        slot = manager.lora_index_to_id.index(number)

        found: list[tuple[WeightBlock, str, int, int, Tensor]] = []
        for fields in blocks:
            block = WeightBlock(**fields)
            place = _place(manager, block.name)
            if place is None:
                continue
            path, shard, which = place
            part = _held(manager.modules[path], shard, which, slot, block)
            if part is not None:
                found.append((block, path, *part))

        sums = [
            checksum(values, first_row=row, first_column=column)
            for _, _, row, column, values in found
        ]
        return [
            asdict(
                BlockPart(
                    name=block.name,
                    holder=path,
                    rows=(row, row + values.shape[0]),
                    columns=(column, column + values.shape[1]),
                    checksum=number,
                )
            )
            for (block, path, row, column, values), number in zip(
                found, to_numbers(sums), strict=True
            )
        ]


def _place(manager: Any, name: str) -> tuple[str, int, str] | None:
    """Module of vLLM's model, place in what that has packed, and `A` or `B`, of a tensor."""
    mapper = getattr(manager.model, "hf_to_vllm_mapper", None)
    rename = mapper.get_rename_mapper().map_name if mapper is not None else str
    path, _, which = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
    path = (rename(f"{path}.weight") or "").removesuffix(".weight")
    if path in manager.modules:
        return path, 0, which

    above, dot, last = path.rpartition(".")
    for whole, parts in manager.packed_modules_mapping.items():
        packed = f"{above}{dot}{whole}"
        if last in parts and packed in manager.modules:
            return packed, parts.index(last), which
    return None


def _held(
    layer: Any, shard: int, which: str, slot: int, block: WeightBlock
) -> tuple[int, int, Tensor] | None:
    """First row and column of the tensor, and the values, that a layer has of a block.

    A layer that is cut by its outputs has all of `A` and some rows of `B`; one that is cut by its
    inputs has some columns of `A` and all of `B`.
    """
    stacked = layer.lora_a_stacked if which == "lora_A" else layer.lora_b_stacked
    if shard >= len(stacked):
        return None
    values = stacked[shard][slot, 0]
    base = layer.base_layer

    if which == "lora_A":
        begin = base.tp_rank * values.shape[1] if _is_cut_by_inputs(base) else 0
        start, stop = max(block.start, begin), min(block.stop, begin + values.shape[1])
        if start >= stop:
            return None
        return 0, start, values[: block.rows, start - begin : stop - begin]

    rank = base.tp_rank
    if shard > 0:  # keys and values that are fewer than workers are held several times
        rank //= getattr(base, "num_kv_head_replicas", 1)
    held = values.shape[0]
    first = rank * held if held < block.rows else 0
    if first + held > block.rows:
        return None
    return first, block.start, values[:, block.start : block.stop]


def _is_cut_by_inputs(base: Any) -> bool:
    held = getattr(base, "input_size_per_partition", None)
    return held is not None and held != base.input_size
