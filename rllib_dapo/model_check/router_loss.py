"""A mixture's router loss, which some models ask for and which training here does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rllib_dapo.model_check.model_report import ModelFinding

ROUTER_LOSS = "router loss"


def check_router_loss(config: Mapping[str, Any]) -> list[ModelFinding]:
    """Whether a mixture of experts asks for a loss that balances its experts.

    Transformers adds it to a model's own loss where `output_router_logits` is true, which is so in
    no kind of model by default. Here a model's own loss is not used, and the objective has no such
    term.

    Args:
        config: Configuration of the text model.

    Returns:
        A note, where the configuration asks for it.
    """
    if config.get("output_router_logits") is not True:
        return []
    factor = config.get("router_aux_loss_coef", 0.0)
    return [
        ModelFinding(
            check=ROUTER_LOSS,
            verdict="note",
            detail=f"config.json asks for a router loss (output_router_logits: true, "
            f"router_aux_loss_coef: {factor}), and training has none: routers learn from the "
            "policy's loss alone; language_model.freeze_fraction keeps those of the first layers "
            "as they are",
        )
    ]
