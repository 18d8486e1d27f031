"""What a user's reward function returned, read as a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rllib_dapo.envs.env_settings import is_finite_number
from rllib_dapo.envs.shown_value import shown
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, missing

_KEYS = ("reward", "is_correct", "components", "metrics")


def read_result(result: Any) -> Verdict:
    """Reads what a function returned for one response.

    That may be a number; a bool (correct or not); a mapping with `reward` (a number) or
    `is_correct` (a bool) or both, and perhaps `components` and `metrics`, which are mappings from
    names to numbers; a verdict; or None, which is no verdict. Anything else is none either, and
    its reason says what it was.
    """
    if isinstance(result, Verdict):
        return result
    if isinstance(result, bool | np.bool_):
        return Verdict(is_correct=bool(result))
    if isinstance(result, Mapping):
        return _read_mapping(result)
    if result is None:
        return _none("the function returned None")
    if not is_finite_number(result):
        return _none(f"the function returned {shown(result)}")
    return Verdict(is_correct=None, reward=float(result))


def read_results(results: Any, size: int) -> list[Verdict]:
    """Reads what a function returned for a group of responses: a list with an entry for each."""
    results = results.tolist() if hasattr(results, "tolist") else results  # of NumPy and torch
    # A set has no order, and a text's characters are no rewards.
    if not isinstance(results, Sequence) or isinstance(results, str | bytes):
        told = f"the function returned {shown(results)}, not a list with {size} rewards"
        return [_none(told)] * size
    if len(results) != size:
        told = f"the function returned {len(results)} rewards for {size} responses"
        return [_none(told)] * size
    return [read_result(result) for result in results]


def _read_mapping(result: Mapping[Any, Any]) -> Verdict:
    unknown = [key for key in result if key not in _KEYS]
    if unknown:
        return _none(f"the function returned {shown(unknown[0])} beside {', '.join(_KEYS)}")

    reward, is_correct = result.get("reward"), result.get("is_correct")
    if reward is None and is_correct is None:
        return _none("the function returned neither reward nor is_correct")
    if reward is not None and not is_finite_number(reward):
        return _none(f"the function returned the reward {shown(reward)}")
    if not isinstance(is_correct, bool | np.bool_ | None):
        return _none(f"the function returned is_correct={shown(is_correct)}, which is not a bool")

    for name in ("components", "metrics"):
        named = result.get(name) or {}
        if not isinstance(named, Mapping) or not all(map(is_finite_number, named.values())):
            return _none(f"the function returned {name} that are not numbers by name")
    return Verdict(
        is_correct=None if is_correct is None else bool(is_correct),
        reward=None if reward is None else float(reward),
        components=_floats(result.get("components")),
        metrics=_floats(result.get("metrics")),
    )


def _floats(named: Mapping[Any, Any] | None) -> dict[str, float]:
    return {str(name): float(value) for name, value in (named or {}).items()}


def _none(told: str) -> Verdict:
    return missing(MissingReason.CRASH, told)
