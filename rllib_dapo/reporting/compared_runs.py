"""Several runs on one page: read as if they were one run of all their trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Literal

import pandas as pd

from rllib_dapo.findings import SettingsError
from rllib_dapo.reporting.stored_run import StoredRun, read_run

MOST_RUNS = len(ascii_uppercase)


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRuns:
    """One or more runs.

    Attributes:
        runs: The runs as they were read.
        together: A run of all trials. Those of several runs have the letter of their run before
            their names; metric and mode are the first run's.
        labels: The runs' letters; the empty text for a single run.
        run_of_trial: The place in `runs` of each trial of `together`.
    """

    runs: tuple[StoredRun, ...]
    together: StoredRun
    labels: tuple[str, ...]
    run_of_trial: tuple[int, ...]


def read_runs(
    folders: Sequence[str],
    *,
    metric: str | None = None,
    mode: Literal["max", "min"] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[StoredRun]:
    """Reads the runs of one page.

    Args:
        folders: Folders or URIs of the runs.
        metric: Metric by which trials are compared; see `read_run`.
        mode: Whether a higher or a lower value is better; see `read_run`.
        say: Receives lines about progress.

    Raises:
        SettingsError: If a folder holds no run or is given twice, or there are too many.
    """
    if len(folders) > MOST_RUNS:
        raise SettingsError(f"{len(folders)} runs: a page compares at most {MOST_RUNS}")
    runs: list[StoredRun] = []
    for folder in folders:
        run = read_run(folder, metric=metric, mode=mode, say=say)
        if run.folder in [known.folder for known in runs]:
            raise SettingsError(f"{folder}: is given twice")
        runs.append(run)
    return runs


def compared_runs(runs: Sequence[StoredRun]) -> ComparedRuns:
    """Puts runs side by side.

    Args:
        runs: At least one run, and at most `MOST_RUNS`.
    """
    first = runs[0]
    if len(runs) == 1:
        return ComparedRuns(
            runs=(first,),
            together=first,
            labels=("",),
            run_of_trial=(0,) * len(first.trials),
        )

    labels = tuple(ascii_uppercase[: len(runs)])
    trials = [
        replace(trial, name=f"{label} {trial.name}")
        for label, run in zip(labels, runs, strict=True)
        for trial in run.trials
    ]
    tables = [run.table.assign(run=run.name) for run in runs]
    together = replace(
        first,
        name=" and ".join(run.name for run in runs),
        is_local=all(run.is_local for run in runs),
        trials=tuple(trials),
        table=pd.concat(tables, ignore_index=True),
    )
    return ComparedRuns(
        runs=tuple(runs),
        together=together,
        labels=labels,
        run_of_trial=tuple(place for place, run in enumerate(runs) for _ in run.trials),
    )
