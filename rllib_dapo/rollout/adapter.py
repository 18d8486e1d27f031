"""An adapter (LoRA) as it is handed to an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """An adapter beside an engine's model. An engine may hold several at a time.

    Attributes:
        name: The caller's name for it, by which requests ask for it. A new adapter of the same name
            takes the place of the old one.
        config: What peft writes into `adapter_config.json`.
        weights: Tensors by their names in peft's `adapter_model.safetensors`.
    """

    name: str
    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
