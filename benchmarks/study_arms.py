"""The arms of the study of sample efficiency: objectives that are compared, and their settings.

The rows of the paper's Table 1 are read from `tune_configs/table1.yaml`, so that there is one list
of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

TABLE1 = Path(__file__).resolve().parents[1] / "tune_configs" / "table1.yaml"
GRPO, DAPO = "grpo", "dapo"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """An objective.

    Attributes:
        title: What it is called on the page.
        preset: The preset that it builds on.
        settings: Settings over that, by dotted name.
        part: Which comparison it is a part of: `methods`, `table1` or `left_out`.
    """

    title: str
    preset: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    part: str = "methods"


def table1_rows() -> dict[str, Arm]:
    """The rows of Table 1 after naive GRPO, which is the arm `grpo`, each with those before it."""
    file = yaml.safe_load(TABLE1.read_text())
    common = {"kl.coefficient": file["kl"]["coefficient"]}
    rows = list(file["variants"].items())[1:]
    return {
        f"row{name}": Arm(
            title=f"+ {name.split('_', 1)[1].replace('_', ' ')}",
            preset=file["preset"],
            settings=common | settings,
            part="table1",
        )
        for name, settings in rows
    }


ARMS: Mapping[str, Arm] = {
    GRPO: Arm(title="GRPO", preset="grpo", settings={"kl.coefficient": 0.0}),
    DAPO: Arm(title="DAPO", preset="dapo"),
    "ppo": Arm(title="PPO", preset="ppo"),
    "grpo_kl": Arm(title="GRPO with its KL term", preset="grpo"),
    # Group mean, deviation of the batch, mean over tokens, and nothing else.
    "lite_ppo": Arm(
        title="Lite PPO",
        preset="ppo",
        settings={"training.advantage_estimator": "batch_std"},
    ),
    **table1_rows(),
    "no_clip_higher": Arm(
        title="DAPO without Clip-Higher",
        preset="dapo",
        settings={"training.epsilon_high": 0.2},
        part="left_out",
    ),
    "no_dynamic_sampling": Arm(
        title="DAPO without dynamic sampling",
        preset="dapo",
        settings={"dynamic_sampling.enabled": False},
        part="left_out",
    ),
    "no_token_level_loss": Arm(
        title="DAPO without the token-level loss",
        preset="dapo",
        settings={"training.loss_aggregation": "sequence_mean"},
        part="left_out",
    ),
    "no_soft_punishment": Arm(
        title="DAPO without the soft punishment",
        preset="dapo",
        settings={"overlong.penalty": 0.0},
        part="left_out",
    ),
}
