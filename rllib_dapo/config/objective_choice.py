"""Checks of the names of objectives and advantage estimators, and of functions of one's own.

A function of one's own is imported and called once with made-up tokens: that takes milliseconds,
and what it gets wrong would otherwise show after the model has loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from rllib_dapo.core import (
    ADVANTAGE_ESTIMATORS,
    OBJECTIVE_NAMES,
    objective_arguments,
)
from rllib_dapo.findings import suggest
from rllib_dapo.learner.group_comparison import is_shipped_estimator, try_own_estimator
from rllib_dapo.learner.policy_objective import is_shipped, resolve_objective, try_own_objective

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# What these settings are where nobody has set them: the default, and what a preset gives.
_UNSET: Mapping[str, tuple[Any, ...]] = {
    "epsilon_low": (0.2,),
    "epsilon_high": (0.28, 0.2),
    "dual_clip": (None,),
    "sapo_temperatures": ((1.0, 1.05), [1.0, 1.05]),
    "ratio_level": ("token",),
}
# Names of the field that are other settings here.
_ELSEWHERE = {
    "dapo": "preset: dapo",
    "grpo": "preset: grpo",
    "ppo": "preset: ppo",
    "gspo": "training.ratio_level: sequence",
}


def check_choices(config: DAPOConfig) -> Iterator[str]:
    """Findings on both settings, and on settings that the chosen objective does not read.

    Args:
        config: Configuration with values of the right kinds, its search spaces resolved.

    Yields:
        One line for each finding.
    """
    yield from _check_objective_name(config.objective)
    yield from _check_estimator(config)
    try:
        resolve_objective(config.objective)
    except ValueError as error:
        if not _is_plain_word(config.objective):
            yield str(error)
        return

    for name, unset in _UNSET.items():
        value = getattr(config, name)
        if value not in unset and not reads(config, name):
            yield (
                f"training.{name}={value!r} is not read by training.objective="
                f"{config.objective!r}: leave it at {unset[0]!r}, or use another objective"
            )
    if not is_shipped(config.objective):
        try:
            try_own_objective(config)
        except ValueError as error:
            yield str(error)


def reads(config: DAPOConfig, name: str) -> bool:
    """Whether the chosen objective reads a setting of `training`.

    Args:
        config: Configuration whose objective exists.
        name: One of `core.OBJECTIVE_SETTINGS`, or `ratio_level`.
    """
    names = objective_arguments(resolve_objective(config.objective))
    return ("ratio" if name == "ratio_level" else name) in names


def _is_plain_word(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and ":" not in value


def _check_objective_name(objective: Any) -> Iterator[str]:
    if is_shipped(objective) or not _is_plain_word(objective):
        return
    if objective in _ELSEWHERE:
        yield (
            f"training.objective={objective!r} is {_ELSEWHERE[objective]} here: set that, and let "
            f"objective be one of {', '.join(OBJECTIVE_NAMES)}"
        )
        return
    yield (
        f"training.objective={objective!r} must be one of {', '.join(OBJECTIVE_NAMES)}, or one of "
        f"your own written package.module:function{suggest(objective, OBJECTIVE_NAMES)}"
    )


def _check_estimator(config: DAPOConfig) -> Iterator[str]:
    estimator = config.advantage_estimator
    if not is_shipped_estimator(estimator):
        if _is_plain_word(estimator):
            yield (
                f"training.advantage_estimator={estimator!r} must be one of "
                f"{', '.join(ADVANTAGE_ESTIMATORS)}, or one of your own written "
                f"package.module:function{suggest(estimator, ADVANTAGE_ESTIMATORS)}"
            )
            return
        try:
            try_own_estimator(config)
        except ValueError as error:
            yield str(error)
            return

    if not config.normalize_advantages_by_std and estimator not in (
        "group",
        "leave_one_out",
        "gae",
    ):
        yield (
            "training.normalize_advantages_by_std=False is not read by training."
            f"advantage_estimator={estimator!r}, which divides by what it will: leave it at true, "
            "or use group or leave_one_out"
        )
