"""What a run's environments have read, and what they leave out: lines for its start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.envs.registration import load_env_creator

from rllib_dapo.envs.row_counts import DataReport
from rllib_dapo.rollout.make_environment import make_environment

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

_TRAINING, _EVALUATION = "training", "evaluation"


def data_notes(configs: Sequence[DAPOConfig]) -> list[str]:
    """Returns what a user should know of the data before a run starts.

    For each source a line: the columns that were taken, how many problems there are, and how many
    rows were left out or changed, and why. For each environment one more, if it uses only some of
    the problems.

    Args:
        configs: The configurations of the run, whose environments were tried before. What they read
            is kept by this process, so that making them again is quick.
    """
    lines: dict[str, None] = {}
    tried: list[tuple[Any, Any]] = []
    for config in configs:
        evaluation = config.get_evaluation_config_object() or config
        for name, one in ((_TRAINING, config), (_EVALUATION, evaluation)):
            if (one.env, one.env_config) not in tried:
                tried.append((one.env, one.env_config))
                lines |= dict.fromkeys(_notes(name, one))
    return list(lines)


def _notes(name: str, config: DAPOConfig) -> list[str]:
    # Any other environment may be dear to make, and has nothing to tell.
    if not hasattr(_class_of(config.env), "data_report"):
        return []
    env = make_environment(config.env, config.env_config)
    report = getattr(env.unwrapped, "data_report", None)
    env.close()
    if not isinstance(report, DataReport):
        return []

    sources = [source.line() for source in report.sources]
    told = report.lines()
    return [line if line in sources else f"{name}: {line}" for line in told]


def _class_of(env: Any) -> Any:
    if not isinstance(env, str):
        return env
    entry_point = gymnasium.registry[env].entry_point if env in gymnasium.registry else None
    return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
