"""The setting `language_model.lora`: which layers have an adapter, and how large it is.

LoRA (arXiv 2106.09685) leaves a matrix `W` as it is and trains two thin ones beside it, of `rank`
rows and columns: the layer computes with `W + scaling B A`. `B` begins with zeros, so that training
begins with the base model itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

SETTING = "language_model.lora"
ALL_LINEAR = "all-linear"
# With `alpha / rank` as the factor, the best learning rate then hardly depends on the rank ("LoRA
# Without Regret", Thinking Machines 2025, which has 32).
DEFAULT_ALPHA = 32.0
# The largest ranks that vLLM makes room for.
ENGINE_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraSettings:
    """An adapter's shape.

    Attributes:
        rank: Rows of `A`, and columns of `B`.
        alpha: What the scaling is made of.
        target_modules: `"all-linear"`, or names of linear layers, such as `q_proj`: those whose
            paths end so. The output projection never has an adapter.
        rslora: Whether the scaling is `alpha / sqrt(rank)` (arXiv 2312.03732) instead of
            `alpha / rank`.
    """

    rank: int
    alpha: float = DEFAULT_ALPHA
    target_modules: str | tuple[str, ...] = ALL_LINEAR
    rslora: bool = False

    @property
    def scaling(self) -> float:
        """The factor before `B A`."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    @property
    def engine_rank(self) -> int:
        """The rank that vLLM makes room for."""
        return next(rank for rank in ENGINE_RANKS if rank >= self.rank)

    def adapts(self, path: str) -> bool:
        """Whether a linear layer is among those that `target_modules` names.

        Args:
            path: The layer's path in the model.
        """
        if self.target_modules == ALL_LINEAR:
            return True
        return any(_ends_with(path, name) for name in self.target_modules)


def read_lora_settings(value: Mapping[str, Any]) -> LoraSettings:
    """Reads the setting's value.

    Args:
        value: `rank`, which must be given, and the other fields of `LoraSettings`.

    Raises:
        ValueError: For the first key or value that is not right; one line.
    """
    known = [field.name for field in fields(LoraSettings)]
    if unknown := sorted(map(str, set(value) - set(known))):
        is_dropout = "dropout" in unknown[0]
        why = (
            "the ratio's probabilities must not depend on chance, so there is no dropout: leave it "
            "out"
            if is_dropout
            else f"it has {', '.join(known)}"
        )
        raise ValueError(f"{SETTING}.{unknown[0]} is not a setting: {why}")

    rank: Any = value.get("rank")
    is_whole = isinstance(rank, int) and not isinstance(rank, bool)
    if not is_whole or not 1 <= rank <= max(ENGINE_RANKS):
        raise ValueError(
            f"{SETTING}.rank={rank!r} must be a whole number from 1 to {max(ENGINE_RANKS)}, such "
            "as 16"
        )
    alpha = value.get("alpha", DEFAULT_ALPHA)
    is_number = isinstance(alpha, Real) and not isinstance(alpha, bool) and math.isfinite(alpha)
    if not is_number or not alpha > 0:
        raise ValueError(f"{SETTING}.alpha={alpha!r} must be a positive number, such as 32")
    rslora = value.get("rslora", False)
    if not isinstance(rslora, bool):
        raise ValueError(f"{SETTING}.rslora={rslora!r} must be true or false")

    return LoraSettings(
        rank=int(rank),
        alpha=float(alpha),
        target_modules=_read_targets(value.get("target_modules", ALL_LINEAR)),
        rslora=rslora,
    )


def _read_targets(value: Any) -> str | tuple[str, ...]:
    is_list = isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value)
    if value == ALL_LINEAR or (is_list and all(value)):
        return ALL_LINEAR if value == ALL_LINEAR else tuple(value)
    raise ValueError(
        f"{SETTING}.target_modules={value!r} must be {ALL_LINEAR}, or a list of names of layers, "
        "such as [q_proj, v_proj]"
    )


def adapted_modules(model: nn.Module, settings: LoraSettings) -> list[str]:
    """Paths of a model's layers that get an adapter, in the order of the model.

    Args:
        model: A causal language model of transformers, whose weights may be anywhere, or nowhere.
        settings: The adapter's shape.

    Raises:
        ValueError: If a name is that of no linear layer, or of the output projection; one line.
    """
    linear = list(linear_layers(model))
    if not linear:
        raise ValueError(
            f"{SETTING}: {type(model).__name__} has no linear layer that can have an adapter: set "
            "it to null"
        )
    targets = () if settings.target_modules == ALL_LINEAR else settings.target_modules
    for target in targets:
        if not any(_ends_with(name, target) for name in linear):
            leaves = sorted(leaf_names(linear))
            raise ValueError(
                f"{SETTING}.target_modules: {target!r} is none of the model's linear layers, which "
                f"are {', '.join(leaves)}"
            )
    return list(filter(settings.adapts, linear))


def linear_layers(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of each linear layer by its path, without the output projection.

    Args:
        model: A causal language model of transformers.
    """
    from torch import nn

    head = model.get_output_embeddings()  # type: ignore[operator]
    return {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }


def leaf_names(paths: Iterable[str]) -> set[str]:
    """Last parts of paths: `q_proj` for `model.layers.0.self_attn.q_proj`."""
    return {path.rpartition(".")[2] for path in paths}


def empty_model(name: str, *, trust_remote_code: bool = False) -> Any:
    """A model without weights, to look at its layers.

    Args:
        name: A model folder or hub name.
        trust_remote_code: Whether code that comes with the model may run.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from rllib_dapo.models.loading import load_config

    config = load_config(name, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def _ends_with(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def peft_names(modules: Sequence[str]) -> list[tuple[str, str, str]]:
    """Each layer's path, and the names of its `A` and `B` in a folder of peft's format."""
    prefix = "base_model.model."
    return [
        (path, f"{prefix}{path}.lora_A.weight", f"{prefix}{path}.lora_B.weight") for path in modules
    ]
