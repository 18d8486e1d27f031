"""`rllib-dapo replay`: replays a recording under its own and other settings, and compares them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.setting import own_settings
from rllib_dapo.config.value_kinds import takes_list
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.replay.replayed_updates import replay
from rllib_dapo.run.layers import Override, read_overrides, with_new_names
from rllib_dapo.run.run_file import apply_sections
from rllib_dapo.run.run_file_checks import RunFileChecks
from rllib_dapo.run.yaml_file import put, put_all
from rllib_dapo.tracking.recording import RecordedStep, read_recording

RECORDED = "as recorded"

# Columns of the printed table and their headings. The JSON and CSV files have every metric.
COLUMNS = {
    "clip_fraction_low": "clip low",
    "clip_fraction_high": "clip high",
    "ratio_mean": "ratio mean",
    "ratio_max": "ratio max",
    "entropy": "entropy",
    "mean_token_probability": "probability",
    "gradient_norm": "grad norm",
    "policy_loss": "loss",
    "sampler_logprob_gap_mean": "sampler gap",
}

# Metrics of the state a run has reached. All others are summarized over the steps.
_TAKEN_FROM_LAST_STEP = ("entropy", "mean_token_probability")

# Sections that affect only sampling, or how a run is reported: they cannot change an update.
_WITHOUT_EFFECT = ("dynamic_sampling", "evaluation", "reporting", "debugging")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplaySettings:
    """What to replay.

    Attributes:
        steps: Recorded training steps, in order.
        configs: One configuration for each row of the table, by the row's name. The first is that
            of the run itself.
    """

    steps: tuple[RecordedStep, ...]
    configs: Mapping[str, DAPOConfig]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayRow:
    """One row of the table: a replay under one configuration.

    Attributes:
        name: The settings that differ from those of the run, or `RECORDED`.
        steps: The Learner's metrics of each step.
    """

    name: str
    steps: tuple[Mapping[str, float], ...]

    def summarized(self, metric: str) -> float:
        """A metric's value for the whole replay.

        Args:
            metric: Name of the metric.

        Returns:
            The last step's value of a metric that describes the state a run has reached, the
            largest of `ratio_max`, the mean over the steps of any other metric. NaN if no step has
            the metric.
        """
        values = [step[metric] for step in self.steps if metric in step]

        if not values:
            return math.nan
        if metric in _TAKEN_FROM_LAST_STEP:
            return values[-1]
        return max(values) if metric == "ratio_max" else math.fsum(values) / len(values)


def read_replay(
    path: Path, overrides: Sequence[str], *, limit: int | None = None
) -> ReplaySettings:
    """Reads a recording and what it is to be replayed with.

    Args:
        path: See `recording.read_recording`.
        overrides: Texts `dotted.name=value`; a list of values, where a setting takes one, makes a
            row for each, and several such a row for each combination.
        limit: At most so many steps.

    Raises:
        SettingsError: One line.
    """
    try:
        steps = read_recording(path.expanduser())[:limit]
    except (ValueError, OSError) as error:
        raise SettingsError(one_line(error)) from error

    # A row for each combination of values, below the row of the run itself.
    rows: dict[str, dict[str, Any]] = {RECORDED: {}}
    for combination in product(*(_choices(override) for override in read_overrides(overrides))):
        if combination:
            rows[", ".join(f"{name}={value}" for name, value in combination)] = dict(combination)
    if steps[0].number and not any("language_model.name" in row for row in rows.values()):
        raise SettingsError(
            f"{path}: the recording begins at step {steps[0].number}, but a replay begins with the "
            "start model: name the weights of that step with --set language_model.name=DIR "
            "(rllib-dapo export makes one from a checkpoint)"
        )

    recorded = {
        name: value
        for name, value in with_new_names(steps[0].settings).items()
        if not name.startswith("deepspeed.")
    }
    configs = {row: _config(recorded | changes, f"--set {row}") for row, changes in rows.items()}
    return ReplaySettings(steps=tuple(steps), configs=configs)


def run_replay(
    settings: ReplaySettings, say: Callable[[str], None] = lambda line: None
) -> Iterator[ReplayRow]:
    """Replays the recording under one configuration after another.

    Args:
        settings: What to replay.
        say: Called with a line of progress, before and after each step.

    Yields:
        Each row of the table as soon as its replay is complete.
    """
    for number, (name, config) in enumerate(settings.configs.items(), start=1):
        row = f"{number} of {len(settings.configs)}, {name}"
        say(f"{row}: loading the model")

        steps = []
        for step in replay(settings.steps, config):
            steps.append(step)
            say(f"{row}: step {len(steps)} of {len(settings.steps)}")

        yield ReplayRow(name=name, steps=tuple(steps))


def table_lines(rows: Sequence[ReplayRow]) -> list[str]:
    """Formats the rows as a table of text, one line for each configuration."""
    width = max(len(row.name) for row in rows)
    headings = "".join(f"  {heading:>11}" for heading in COLUMNS.values())
    lines = [" " * width + headings]

    for row in rows:
        values = "".join(f"  {row.summarized(metric):>11.4g}" for metric in COLUMNS)
        lines.append(f"{row.name:{width}}{values}")
    return lines


def write_json(rows: Sequence[ReplayRow], file: Path) -> None:
    """Writes the table, and every metric of every step, as JSON."""
    content = [
        {
            "settings": row.name,
            "figures": {metric: row.summarized(metric) for metric in COLUMNS},
            "steps": [dict(step) for step in row.steps],
        }
        for row in rows
    ]
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_csv(rows: Sequence[ReplayRow], file: Path) -> None:
    """Writes every metric of every step as CSV, one line for each step of each row."""
    names = list(dict.fromkeys(name for row in rows for step in row.steps for name in step))

    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=["settings", *names])
        writer.writeheader()
        for row in rows:
            writer.writerows({"settings": row.name, **step} for step in row.steps)


def _choices(override: Override) -> list[tuple[str, Any]]:
    """A setting and each of the values that it is to have."""
    value = override.value
    is_list = isinstance(value, list) and bool(value)
    RunFileChecks(override.source).check(put({}, override.name, value[0] if is_list else value))
    setting = own_settings(DAPOConfig).get(override.name)
    if setting is None or setting.section in _WITHOUT_EFFECT:
        raise SettingsError(
            f"{override.source}: a replay makes updates and samples nothing: {override.section} "
            "has no part in it"
        )

    # Where a pair is one value, several values are a list of pairs.
    is_one = takes_list(setting.annotation) and not any(
        isinstance(one, list) for one in value or ()
    )
    several = isinstance(value, list) and not is_one
    return [(override.name, one) for one in (value if several else [value])]


def _config(settings: Mapping[str, Any], source: str) -> DAPOConfig:
    config = DAPOConfig()
    apply_sections(config, put_all({}, dict(settings)), source)
    try:
        config.validate()
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"{source}: {one_line(error).partition('To suppress all')[0].strip()}"
        ) from error
    return config
