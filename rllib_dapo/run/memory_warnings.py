"""Warnings before a run for whose memory this machine is plainly too small."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rllib_dapo.capacity.hardware import Hardware
from rllib_dapo.capacity.known_models import known_sizes
from rllib_dapo.capacity.model_shape import model_shape
from rllib_dapo.capacity.plan_findings import memory_findings
from rllib_dapo.capacity.run_plan import make_plan
from rllib_dapo.capacity.this_machine import main_memory, this_machine
from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.findings import SettingsError
from rllib_dapo.models import folder_if_there

# Files of this share of main memory, or larger ones, are worth seconds of looking closer: trained
# in float32, a model takes eight times the space of its bfloat16 file and more.
WORTH_A_LOOK = 1 / 32


def memory_warnings(
    configs: Sequence[DAPOConfig], hardware: Hardware | None = None
) -> dict[str, DAPOConfig]:
    """What will not fit this machine's memory, by `rllib-dapo plan`'s own arithmetic.

    Nothing is fetched, and small models are passed over: to count their parameters takes longer
    than to train some of them.

    Args:
        configs: Valid configurations without search spaces.
        hardware: The machine; by default this one.

    Returns:
        Findings of one line each, and a configuration that each is of.
    """
    room = main_memory() if hardware is None else hardware.memory_per_node or 0.0
    looked_at = [config for config in reversed(configs) if _is_worth_a_look(config, room)]
    if not looked_at:
        return {}

    machine = hardware or this_machine()
    found: dict[str, DAPOConfig] = {}
    for config in looked_at:
        try:
            shape = model_shape(
                str(config.model_name), trust_remote_code=config.trust_remote_code, fetch=False
            )
            plan = make_plan(config, shape, machine)
        except (SettingsError, ValueError):
            continue  # what is wrong with it is said elsewhere, or when it loads
        found |= dict.fromkeys(memory_findings(plan, config), config)
    return {
        f"{finding} (`rllib-dapo plan` shows all of it)": config
        for finding, config in found.items()
    }


def _is_worth_a_look(config: DAPOConfig, room: float) -> bool:
    """Whether a model is large enough to matter, by the size of its files or by its name."""
    folder = folder_if_there(str(config.model_name))
    if folder is None:
        return known_sizes(str(config.model_name)) is not None
    return _weight_bytes(folder) >= WORTH_A_LOOK * room


def _weight_bytes(folder: Path) -> float:
    """Bytes of a model's weights on disk."""
    endings = (".safetensors", ".bin")
    return float(sum(f.stat().st_size for f in folder.iterdir() if f.name.endswith(endings)))
