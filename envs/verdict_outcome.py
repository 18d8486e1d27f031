"""A verdict as what `step` returns of it: a reward, and a part of `info`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from rllib_dapo.envs.env_settings import is_finite_number
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, VerdictKind, missing


def reward_and_info(verdict: Verdict) -> tuple[float, dict[str, Any]]:
    """Turns a verdict into a reward and its part of `info`.

    Returns:
        The reward (NaN if there is none), and `prediction`, `is_correct` unless the verdict is a
        mere grade, `missing_reason` if it is missing, and `reward_components` and
        `reward_metrics` if there are any.
    """
    if not isinstance(verdict, Verdict):
        verdict = missing(
            MissingReason.CRASH, f"score must return a Verdict, not {type(verdict).__name__}"
        )
    # A scorer's NaN or infinity is not a reward, and would spread over the whole group.
    if verdict.reward is not None and not is_finite_number(verdict.reward):
        reason = f"the scorer gave the reward {verdict.reward!r}"
        verdict = replace(
            verdict, is_correct=None, reward=None, reason=f"{MissingReason.CRASH}: {reason}"
        )

    info: dict[str, Any] = {"prediction": verdict.prediction}
    if verdict.components:
        info["reward_components"] = dict(verdict.components)
    if verdict.metrics:
        info["reward_metrics"] = dict(verdict.metrics)
    if verdict.kind is VerdictKind.MISSING:
        return math.nan, info | {
            "is_correct": None,
            "missing_reason": verdict.reason or "the scorer gave no verdict",
        }

    if verdict.is_correct is not None:
        info["is_correct"] = bool(verdict.is_correct)
    reward = (1.0 if verdict.is_correct else -1.0) if verdict.reward is None else verdict.reward
    return float(reward), info
