"""The adapters of a vLLM engine: which it holds, and under which number each version of one.

vLLM knows an adapter by a number, and caches prompts by its name and path. Each version here has a
number and a name of its own, so what was computed under an old one is never used again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_dapo.models.lora_settings import (
    LoraSettings,
    adapted_modules,
    empty_model,
    leaf_names,
)
from rllib_dapo.rollout.adapter import Adapter
from rllib_dapo.rollout.vllm_transfer import ask_workers
from rllib_dapo.weight_checksums import BlockPart, WeightBlock

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

logger = logging.getLogger(__name__)

# Where a request says that its adapter is. Workers hold it already; if one did not, it would look
# here, find nothing and fail, and not sample from another one.
NOWHERE = Path("/rllib-dapo-adapter-that-is-in-memory")


class VLLMAdapters:
    """Adapters by their names."""

    def __init__(self) -> None:
        """Holds none."""
        self._held: dict[str, LoRARequest] = {}
        self._numbers = count(1)

    def load(self, llm: LLM, adapter: Adapter) -> None:
        """Has all workers take an adapter, and drop the one that it replaces.

        Args:
            llm: The engine.
            adapter: The adapter.

        Raises:
            RuntimeError: If a worker does not take it; one line. The old one is gone then.
        """
        from vllm.lora.request import LoRARequest

        self.drop(llm, adapter.name)
        number = next(self._numbers)
        name = f"{adapter.name}-{number}"
        weights = dict(adapter.weights)
        ask_workers(llm, "take_adapter", name, number, dict(adapter.config), weights)
        self._held[adapter.name] = LoRARequest(name, number, str(NOWHERE / name))

    def drop(self, llm: LLM, name: str) -> None:
        """Has all workers forget an adapter, if there is one of this name.

        Args:
            llm: The engine.
            name: The adapter's name.
        """
        old = self._held.pop(name, None)
        if old is not None:
            ask_workers(llm, "drop_adapter", old.lora_int_id)

    def request(self, name: str | None) -> LoRARequest | None:
        """What vLLM is told with a request.

        Args:
            name: Name of an adapter, or None for the model itself.

        Raises:
            RuntimeError: If there is no such adapter.
        """
        if name is None:
            return None
        if name not in self._held:
            raise RuntimeError(
                f"the engine has no adapter {name!r}: it must be handed over before it is sampled "
                "from"
            )
        return self._held[name]

    def checksums(self, llm: LLM, name: str, blocks: Sequence[WeightBlock]) -> list[BlockPart]:
        """Checksums of what the workers hold of an adapter, and compute with.

        Args:
            llm: The engine.
            name: The adapter's name. Of one that the engine has not, there is nothing.
            blocks: Blocks of its tensors.
        """
        if name not in self._held:
            return []
        arguments = (self._held[name].lora_int_id, list(map(asdict, blocks)))
        answers = ask_workers(llm, "adapter_checksums", *arguments)
        return [BlockPart(**part) for answer in answers for part in answer]


def adapter_arguments(
    lora: LoraSettings, modules: Sequence[str], *, adapters: int = 1
) -> dict[str, Any]:
    """Arguments of `vllm.LLM` for an engine that takes adapters.

    Args:
        lora: The adapters' shape.
        modules: Paths of the layers that have one; vLLM makes room on no others.
        adapters: How many are sampled from at a time.
    """
    # One more in main memory, for the new version of one beside the others.
    return {
        "enable_lora": True,
        "max_lora_rank": lora.engine_rank,
        "lora_target_modules": sorted(leaf_names(modules)),
        "max_loras": adapters,
        "max_cpu_loras": adapters + 1,
    }


def unserved(llm: LLM, modules: Sequence[str]) -> list[str]:
    """Last names of layers on which vLLM's model takes no adapter; empty where it takes all.

    Args:
        llm: An engine with `adapter_arguments`.
        modules: Paths of layers that have one.
    """
    served = set.intersection(*map(set, ask_workers(llm, "layers_with_adapters")))
    return sorted(leaf_names(modules) - served)


def start_with_adapters(
    start: Callable[[dict[str, Any]], LLM],
    settings: dict[str, Any],
    lora: LoraSettings,
    *,
    adapters: int,
) -> tuple[LLM, VLLMAdapters | None]:
    """Starts an engine that takes adapters, or where vLLM cannot have that, one without.

    Args:
        start: Starts an engine with arguments of `vllm.LLM`.
        settings: Its arguments without adapters.
        lora: The adapters' shape.
        adapters: How many are sampled from at a time.

    Returns:
        The engine and its adapters; None where it takes none.
    """
    model = empty_model(
        str(settings["model"]), trust_remote_code=bool(settings["trust_remote_code"])
    )
    modules = adapted_modules(model, lora)
    try:
        llm = start(settings | adapter_arguments(lora, modules, adapters=adapters))
    except ValueError as error:
        if "lora" not in str(error).lower():
            raise
        reason = str(error)
    else:
        lacking = unserved(llm, modules)
        if not lacking:
            return llm, VLLMAdapters()
        llm.llm_engine.engine_core.shutdown()
        reason = f"it takes none on {', '.join(lacking)}"

    logger.warning("language_model.lora: vLLM cannot have the adapter beside the model: %s", reason)
    return start(settings), None
