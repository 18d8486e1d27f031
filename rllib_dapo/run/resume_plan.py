"""What `--resume` has to do: which trials go on, and whether that is what it was told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyarrow.fs import FileType
from ray.tune import ExperimentAnalysis
from ray.tune.experiment import Trial

from rllib_dapo.findings import SettingsError
from rllib_dapo.run.run_record import (
    RunRecord,
    changed_settings,
    changed_stop,
    refuse_without_record,
)
from rllib_dapo.run.search.stoppers import (
    STOP_REASON,
    STOP_RULES,
    StopRules,
    broken_rules,
    number_at,
)

# Limits that no trial ever goes back from.
_ONLY_GROW = ("training_iteration", "time_total_s", "num_env_steps_sampled_lifetime")


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumePlan:
    """What a resumed run has to do.

    Attributes:
        record: The run's record from now on: as it was started, with what ends a trial now.
        reopened: Tune's ids of the trials that had ended and go on under the changed `stop`.
        is_stop_changed: Whether trials end by another `stop` than they were started with.
        num_finished: Number of trials that have ended and stay as they are.
        is_over: Whether no trial is left to train.
        reached: Where the trials are, in words.
    """

    record: RunRecord
    reopened: tuple[str, ...]
    is_stop_changed: bool
    num_finished: int
    is_over: bool
    reached: str


def plan_resume(folder: str, now: RunRecord) -> ResumePlan:
    """Compares a run with what it is to be resumed with, before anything starts.

    Args:
        folder: The run's folder or URI, see `run_folder.newest_run`.
        now: Record of what the run file and `--set` say now.

    Raises:
        SettingsError: If anything but `stop` has changed, or `stop` asks for what cannot be.
    """
    before = refuse_without_record(folder)
    _refuse_changes(before, now)
    changes = changed_stop(before, now)
    trials = _read_trials(folder)
    if changes:
        _refuse_scheduler(before, changes)
        _refuse_passed(changes, trials)

    ended = [trial for trial in trials if trial.status == Trial.TERMINATED]
    reopened = [trial for trial in ended if changes and _goes_on(trial, now.stop)]
    for trial in reopened:
        if not _has_checkpoint(trial):
            raise SettingsError(
                f"--resume: {trial} has no checkpoint left, so it cannot go on under a changed "
                "stop: leave the change out, or start a new run without --resume"
            )

    finished = len(ended) - len(reopened)
    is_whole = before.num_trials is not None and len(trials) >= before.num_trials
    return ResumePlan(
        record=dataclasses.replace(before, stop=now.stop),
        reopened=tuple(trial.trial_id for trial in reopened),
        is_stop_changed=bool(changes) and bool(trials),
        num_finished=finished,
        is_over=is_whole and finished == len(trials),
        reached=_reached(trials),
    )


def _refuse_changes(before: RunRecord, now: RunRecord) -> None:
    changed = changed_settings(before, now)
    if not changed:
        return
    name, (old, new) = next(iter(changed.items()))
    others = f" (and {len(changed) - 1} more settings)" if len(changed) > 1 else ""
    raise SettingsError(
        f"--resume: {name} is {new!r} now, but the run was started with {old!r}{others}; only "
        f"stop.* can change: leave {name}={new!r} out, or start a new run without --resume"
    )


def _refuse_scheduler(before: RunRecord, changes: Mapping[str, tuple[Any, Any]]) -> None:
    """A scheduler and a learning searcher have decided by the length that trials were to have."""
    name, (old, new) = next(iter(changes.items()))
    for setting, simple in (("tune.scheduler.type", "fifo"), ("tune.searcher.type", "random")):
        kind = before.settings.get(setting, simple)
        if kind != simple:
            raise SettingsError(
                f"--resume: stop.{name} is {new!r} now, but the run was started with {old!r}: with "
                f"{setting}={kind} a started run keeps its stop; leave the change out, or start a "
                "new run without --resume"
            )


def _refuse_passed(changes: Mapping[str, tuple[Any, Any]], trials: Sequence[Trial]) -> None:
    """Refuses a limit that a trial has passed already: nothing is taken back."""
    for name, (_, limit) in changes.items():
        if name in STOP_RULES or limit is None:
            continue
        for trial in trials:
            value = _metric(trial, name)
            has_ended = trial.status == Trial.TERMINATED
            if value is None or value < limit or (has_ended and name not in _ONLY_GROW):
                continue
            if value > limit or not has_ended:
                raise SettingsError(
                    f"--resume: stop.{name}={limit:g}, but {trial} is at {value:g} already: give "
                    f"more than that, or leave the change out"
                )


def _goes_on(trial: Trial, stop: Mapping[str, Any]) -> bool:
    """Whether a trial that has ended would not have ended there under this `stop`."""
    result = trial.last_result or {}
    if not result.get(STOP_REASON):
        return False  # somebody else ended it
    for name, limit in stop.items():
        value = _metric(trial, name)
        is_limit = name not in STOP_RULES and limit is not None
        if is_limit and value is not None and value >= limit:
            return False
    rules = StopRules(**{name: stop[name] for name in STOP_RULES if name in stop})
    return not broken_rules(result, rules)


def _has_checkpoint(trial: Trial) -> bool:
    checkpoint = trial.checkpoint
    if checkpoint is None:
        return False
    info = checkpoint.filesystem.get_file_info(checkpoint.path)
    return bool(info.type is FileType.Directory)


def _metric(trial: Trial, name: str) -> float | None:
    return number_at(trial.last_result or {}, name)


def _reached(trials: Sequence[Trial]) -> str:
    """Where the trials are: `8 iterations`, or `3 to 8 iterations`."""
    iterations = [int((trial.last_result or {}).get("training_iteration", 0)) for trial in trials]
    low, high = min(iterations, default=0), max(iterations, default=0)
    return f"{high} iterations" if low == high else f"{low} to {high} iterations"


def _read_trials(folder: str) -> list[Trial]:
    """The run's trials as Tune has kept them; none where it was ended before the first snapshot."""
    try:
        return list(ExperimentAnalysis(folder).trials)
    except ValueError:
        return []
