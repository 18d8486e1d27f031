"""Trials of the same settings: what differs between them is the seed, and chance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rllib_dapo.reporting.stored_run import StoredTrial
from rllib_dapo.reporting.trial_settings import setting_text

SEED = "seed"


def seed_groups(
    trials: Sequence[StoredTrial], varied: Sequence[str], run_of_trial: Sequence[int]
) -> list[list[int]]:
    """Groups trials that differ in nothing but the seed.

    Args:
        trials: Trials of one or more runs.
        varied: Names of all settings that differ between any of them.
        run_of_trial: The run that each trial belongs to: repetitions in another run may be of
            another version of the code, so they are a group of their own.

    Returns:
        The places of the trials in groups, each in order; together they are all trials.
    """
    names = [name for name in varied if name != SEED]
    groups: defaultdict[tuple, list[int]] = defaultdict(list)
    for place, (trial, run) in enumerate(zip(trials, run_of_trial, strict=True)):
        # A trial without a configuration has not begun: nothing says what it is like.
        alone = None if trial.config else place
        settings = tuple(setting_text(trial.config.get(name)) for name in names)
        groups[run, alone, settings].append(place)
    return list(groups.values())
