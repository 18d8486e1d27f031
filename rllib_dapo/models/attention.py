"""Which of transformers' attention implementations computes what a model is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

EAGER, SDPA, FLEX = "eager", "sdpa", "flex_attention"
# This package's own: SDPA, which computes rows of several responses block by block.
BLOCKS = "sdpa_blocks"

# A cap on attention scores, under any name: `attn_logit_softcapping`, `attention_logit_cap`, ...
_SCORE_CAP = re.compile(r"att(n|ention).*cap")


def choose_attention(config: PreTrainedConfig) -> str:
    """The fastest attention that computes what the model is.

    That is PyTorch's `scaled_dot_product_attention` (SDPA). It cannot cap scores, as Gemma 2 does,
    and transformers names the classes of models that do not work with it (attention sinks, for
    one). These are computed by `eager`, which every model is defined by.

    Args:
        config: The model's configuration.

    Returns:
        `"sdpa"` or `"eager"`.
    """
    from transformers import AutoModelForCausalLM

    if _caps_scores(config.to_dict()):
        return EAGER
    found = AutoModelForCausalLM._model_mapping.get(type(config), None)
    classes = found if isinstance(found, list | tuple) else [found] if found else []
    # A model with code of its own is in no list: it says itself what it cannot do.
    return SDPA if all(getattr(cls, "_supports_sdpa", False) for cls in classes) else EAGER


def _caps_scores(settings: dict[Any, Any]) -> bool:
    return any(
        _caps_scores(value)
        if isinstance(value, dict)
        else bool(_SCORE_CAP.search(str(name))) and bool(value)
        for name, value in settings.items()
    )
