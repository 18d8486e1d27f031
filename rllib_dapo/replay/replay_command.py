"""`rllib-dapo replay`: a recording under its own settings and under others, as one table."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rllib_dapo.config.dapo_config import OWN_SECTIONS, DAPOConfig
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.replay.replayed_updates import replay
from rllib_dapo.run.section_checks import allowed_settings, check_names
from rllib_dapo.run.yaml_file import parse_override, put
from rllib_dapo.tracking.recording import RecordedStep, read_recording

RECORDED = "as recorded"
# What stands in the table; the files have every figure.
COLUMNS = (
    "clip_fraction_low",
    "clip_fraction_high",
    "ratio_mean",
    "ratio_max",
    "entropy",
    "mean_token_probability",
    "gradient_norm",
    "policy_loss",
    "sampler_logprob_gap_mean",
)
# What acts on sampling alone, or on how a run is spread: it would change nothing here.
_WITHOUT_EFFECT = ("dynamic_sampling", "evaluation", "reporting")
_LAST = (
    "entropy",
    "mean_token_probability",
)  # where a run has got to; of everything else the mean of all steps


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplaySettings:
    """What is to be replayed.

    Attributes:
        steps: The recorded steps.
        configs: A configuration for each row of the table, by its name; the first is that of the
            run.
    """

    steps: tuple[RecordedStep, ...]
    configs: Mapping[str, DAPOConfig]


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """One row of the table.

    Attributes:
        name: The settings that differ from those of the run.
        steps: The Learner's figures of each step.
    """

    name: str
    steps: tuple[Mapping[str, float], ...]

    def figure(self, name: str) -> float:
        """The mean over the steps, or where the last step has got to; NaN where no step has it."""
        values = [step[name] for step in self.steps if name in step]
        if not values:
            return math.nan
        if name in _LAST:
            return values[-1]
        return max(values) if name == "ratio_max" else math.fsum(values) / len(values)


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
    recorded = {
        name: value
        for name, value in steps[0].settings.items()
        if not name.startswith("deepspeed.")
    }
    choices = [_choices(text) for text in overrides]
    rows: dict[str, dict[str, Any]] = {RECORDED: {}}
    for combination in product(*choices):
        if combination:
            rows[", ".join(f"{name}={value}" for name, value in combination)] = dict(combination)
    if steps[0].number and not any("language_model.name" in row for row in rows.values()):
        raise SettingsError(
            f"{path}: the recording begins at step {steps[0].number}, but a replay begins with the start model: name "
            "the weights of that step with --set language_model.name=DIR (rllib-dapo export makes one of a checkpoint)"
        )
    configs = {row: _config(recorded | changes, f"--set {row}") for row, changes in rows.items()}
    return ReplaySettings(steps=tuple(steps), configs=configs)


def run_replay(
    settings: ReplaySettings, say: Callable[[str], None] = lambda line: None
) -> Iterator[Replayed]:
    """Replays, and gives each row of the table when it is done.

    Args:
        settings: What is to be replayed.
        say: Is told how far it is.
    """
    for number, (name, config) in enumerate(settings.configs.items(), start=1):
        say(f"{number} of {len(settings.configs)}, {name}: loading the model")
        steps = []
        for step in replay(settings.steps, config):
            steps.append(step)
            say(
                f"{number} of {len(settings.configs)}, {name}: step {len(steps)} of {len(settings.steps)}"
            )
        yield Replayed(name=name, steps=tuple(steps))


def table_lines(rows: Sequence[Replayed]) -> list[str]:
    """The rows as a table of text: a line for each setting that was tried."""
    width = max(len(row.name) for row in rows)
    heads = [_head(column) for column in COLUMNS]
    lines = [" " * width + "".join(f"  {head:>11}" for head in heads)]
    for row in rows:
        lines.append(
            f"{row.name:{width}}" + "".join(f"  {row.figure(column):>11.4g}" for column in COLUMNS)
        )
    return lines


def write_json(rows: Sequence[Replayed], file: Path) -> None:
    """Writes the table and every figure of every step."""
    content = [
        {
            "settings": row.name,
            "figures": {column: row.figure(column) for column in COLUMNS},
            "steps": [dict(step) for step in row.steps],
        }
        for row in rows
    ]
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_csv(rows: Sequence[Replayed], file: Path) -> None:
    """Writes every figure of every step, a line for each step of each row."""
    names = list(dict.fromkeys(name for row in rows for step in row.steps for name in step))
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=["settings", *names])
        writer.writeheader()
        for row in rows:
            writer.writerows({"settings": row.name, **step} for step in row.steps)


def _head(column: str) -> str:
    short = {
        "clip_fraction_low": "clip low",
        "clip_fraction_high": "clip high",
        "mean_token_probability": "probability",
        "gradient_norm": "grad norm",
        "policy_loss": "loss",
        "sampler_logprob_gap_mean": "sampler gap",
    }
    return short.get(column, column.replace("_", " "))


def _choices(text: str) -> list[tuple[str, Any]]:
    """A setting and the values that it is to have."""
    name, value = parse_override(text)
    section, _, key = name.partition(".")
    check_names(
        put({}, name, value[0] if isinstance(value, list) and value else value), f"--set {text}"
    )
    if section not in OWN_SECTIONS or section in _WITHOUT_EFFECT:
        raise SettingsError(
            f"--set {text}: a replay makes updates and samples nothing: {section} has no part in it"
        )
    takes_list = any(word in allowed_settings(section).get(key, "") for word in ("tuple", "list"))
    several = isinstance(value, list) and (
        not takes_list or any(isinstance(one, list) for one in value)
    )
    return [(name, one) for one in value] if several else [(name, value)]


def _config(settings: Mapping[str, Any], source: str) -> DAPOConfig:
    config = DAPOConfig()
    sections: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        sections = put(sections, name, value)
    try:
        for section, content in sections.items():
            getattr(config, section)(**content)
        config.validate()
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"{source}: {one_line(error).partition('To suppress all')[0].strip()}"
        ) from error
    return config
