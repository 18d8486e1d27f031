"""Settings of a sweep that never acted, so that nothing can be said about their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from rllib_dapo.run.sweep_points import SweepTrial

_LEARNER = "learners/default_policy"
# By setting, the column that is not 0 where it acts, and what it means that it is.
_ACTS: Mapping[str, tuple[str, str]] = {
    "epsilon_low": (
        f"{_LEARNER}/clip_fraction_low",
        "no token was clipped from below in any trial",
    ),
    "epsilon_high": (
        f"{_LEARNER}/clip_fraction_high",
        "no token was clipped from above in any trial",
    ),
    "value_clip": (
        f"{_LEARNER}/value_clip_fraction",
        "no token's value loss was clipped in any trial",
    ),
    "overlong_penalty": (
        "env_runners/overlong_penalty_mean",
        "no accepted response was long enough to be punished in any trial",
    ),
    "overlong_buffer_tokens": (
        "env_runners/overlong_penalty_mean",
        "no accepted response was long enough to be punished in any trial",
    ),
}


def idle_settings(names: Sequence[str], trials: Sequence[SweepTrial]) -> dict[str, str]:
    """Finds settings that were searched for and never acted.

    Args:
        names: Settings in which points differ.
        trials: All trials of the sweep.

    Returns:
        By setting, what says that it was idle, in words. A setting counts as idle only if every
        trial with results has measured that, in all of its iterations.
    """
    frames = [trial.frame for trial in trials if trial.frame is not None and len(trial.frame)]
    return {
        name: _ACTS[name][1]
        for name in names
        if name in _ACTS and frames and all(_is_always_zero(f, _ACTS[name][0]) for f in frames)
    }


def _is_always_zero(frame: pd.DataFrame, column: str) -> bool:
    if column not in frame:
        return False
    known = frame[column].dropna()
    return bool(len(known)) and bool((known == 0).all())
