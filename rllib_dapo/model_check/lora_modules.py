"""Whether a model has the layers that `language_model.lora` names, by its configuration alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rllib_dapo.learner.adapter_folder import ADAPTER_CONFIG
from rllib_dapo.model_check.model_report import ModelFinding
from rllib_dapo.models import load_config
from rllib_dapo.models.lora_settings import (
    SETTING,
    adapted_modules,
    empty_model,
    read_lora_settings,
)

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

IS_ADAPTER = (
    "it is an adapter and not a model: rllib-dapo export CHECKPOINT FOLDER --merge makes one of it"
)


def check_lora_modules(model: Path | str, config: DAPOConfig) -> list[ModelFinding]:
    """Checks the layers that are to have an adapter, before anything heavy starts.

    Args:
        model: A model folder, or a hub name whose files are here.
        config: Configuration with a valid setting.

    Returns:
        A finding if the model has not these layers, is quantized, or is an adapter itself; else
        none.
    """
    if (Path(model) / ADAPTER_CONFIG).is_file():
        # Transformers would load its base beneath it, and vLLM would find no weights.
        return [ModelFinding(check="lora", verdict="refused", detail=IS_ADAPTER)]
    if config.lora is None:
        return []
    try:
        published = load_config(model, trust_remote_code=config.trust_remote_code)
        if getattr(published, "quantization_config", None) is not None:
            raise ValueError(
                f"{SETTING} wants a model that is not quantized: name the one that it was made of"
            )
        empty = empty_model(str(model), trust_remote_code=config.trust_remote_code)
        adapted_modules(empty, read_lora_settings(config.lora))
    except ValueError as error:
        return [ModelFinding(check="lora", verdict="refused", detail=str(error))]
    return []
