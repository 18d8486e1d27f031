"""The section `tune` of a run file: how trials are made and kept."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rllib_dapo.run.search.schedulers import PBT_KEEPS, check_scheduler
from rllib_dapo.run.search.searchers import check_searcher


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneSettings:
    """The section `tune`.

    Attributes:
        name: The run's folder is called this and the time of its start; the file's name if not
            given.
        num_samples: Number of trials; with a grid, trials for each of its points.
        max_concurrent_trials: Largest number of trials at the same time; 0 sets no limit.
        metric: Metric by which trials are compared.
        mode: Whether more of the metric is better, or less.
        checkpoint_frequency: Iterations between checkpoints; there is also one at the end.
        num_to_keep: Number of newest checkpoints that are kept.
        max_failures: How often a failed trial starts again from its last checkpoint.
        scheduler: `{type: fifo | asha | pbt | race, ...}`, see `run.search.schedulers`.
        searcher: `{type: random | optuna, ...}`, see `run.search.searchers`.
        reuse_actors: Whether a trial takes over the processes, and so the engine, of one that has
            ended or pauses, where no setting between them asks for others.
    """

    name: str | None = None
    num_samples: int = 1
    max_concurrent_trials: int = 0
    metric: str = "env_runners/accuracy"
    mode: Literal["max", "min"] = "max"
    checkpoint_frequency: int = 20
    num_to_keep: int = 2
    max_failures: int = 0
    scheduler: dict[str, Any] = dataclasses.field(default_factory=lambda: {"type": "fifo"})
    searcher: dict[str, Any] = dataclasses.field(default_factory=lambda: {"type": "random"})
    reuse_actors: bool = True


TUNE_KINDS: Mapping[str, Any] = typing.get_type_hints(TuneSettings)
_LEAST = {
    "num_samples": 1,
    "max_concurrent_trials": 0,
    "checkpoint_frequency": 0,
    "num_to_keep": 1,
    "max_failures": 0,
}
_LONGEST_NAME = 200  # the time of the start is added, and a file's name has 255 at most
_NAME = re.compile(r"[^/\\\x00-\x1f]+")


def check_tune_value(name: str, value: Any) -> Iterator[str]:
    """A finding where a value of the right kind cannot be used.

    Args:
        name: Name of a setting in the section.
        value: Its value.

    Yields:
        At most one line.
    """
    if name in _LEAST:
        why = " (0 keeps none but the last)" if name == "checkpoint_frequency" else ""
        if value < _LEAST[name]:
            yield f"tune.{name}={value} must be at least {_LEAST[name]}{why}"
    if name == "name" and value is not None:
        yield from check_run_name(value, "tune.name")


def check_run_name(name: str, setting: str) -> Iterator[str]:
    """A finding where a run's folder cannot be called so.

    Args:
        name: Name of the run.
        setting: What gave it, for the message.
    """
    if not _NAME.fullmatch(name) or name.startswith((".", " ", "-", "~")) or name.endswith(" "):
        yield (
            f"{setting}={name!r} must be a folder's name, without slashes and line breaks, and "
            "without a dot, dash, tilde or space in front: --storage says where the folder lies"
        )
    elif len(name.encode()) > _LONGEST_NAME:
        yield f"{setting}={name!r} must be shorter: at most {_LONGEST_NAME} bytes"


def tune_settings(given: Mapping[str, Any]) -> TuneSettings:
    """The section with its defaults filled in.

    Args:
        given: What stands in the section, of the right kinds.
    """
    tuning = TuneSettings(**given)
    tuning = dataclasses.replace(tuning, metric=tuning.metric.replace(".", "/"))

    # Trials of PBT take over each other's checkpoints, so one more has to be there.
    if tuning.scheduler.get("type") == "pbt" and "num_to_keep" not in given:
        tuning = dataclasses.replace(tuning, num_to_keep=PBT_KEEPS)
    return tuning


def check_sweep(
    tuning: TuneSettings,
    *,
    search: Mapping[str, Mapping[str, Any]],
    has_variants: bool,
    iterations: float | None,
    evaluation_interval: int | None,
) -> Iterator[str]:
    """Findings on scheduler and searcher, seen beside the rest of the run file.

    Args:
        tuning: The section `tune`.
        search: The section `search`.
        has_variants: Whether there are variants.
        iterations: Iterations of a trial, where the file bounds them.
        evaluation_interval: Iterations between evaluations, if there are any.

    Yields:
        One line for each finding.
    """
    yield from check_scheduler(
        tuning.scheduler,
        iterations=iterations,
        searched=list(search),
        has_variants=has_variants,
        metric=tuning.metric,
        evaluation_interval=evaluation_interval,
    )
    yield from check_searcher(
        tuning.searcher,
        search=search,
        scheduler=str(tuning.scheduler.get("type")),
        has_variants=has_variants,
        metric=tuning.metric,
    )

    if tuning.scheduler.get("type") == "race" and tuning.max_concurrent_trials:
        yield (
            f"tune.max_concurrent_trials={tuning.max_concurrent_trials} must be 0 with race: its "
            "trials take turns, and a trial that is paused counts too"
        )
    if tuning.scheduler.get("type") != "pbt":
        return
    if 0 < tuning.max_concurrent_trials < tuning.num_samples:
        yield (
            f"tune.max_concurrent_trials={tuning.max_concurrent_trials} must be 0 with pbt: its "
            "trials take turns, and a trial that is paused counts too"
        )
    if tuning.num_to_keep < PBT_KEEPS:
        yield (
            f"tune.num_to_keep={tuning.num_to_keep} must be at least {PBT_KEEPS} with pbt: other "
            "trials take over a trial's checkpoints"
        )
