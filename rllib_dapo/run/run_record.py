"""What a run was started with, in a file of its folder: read by everybody who looks at it later.

The report, the summary on the terminal and `--resume` all ask this file by which metric trials are
compared, and whether more or less of it is better. It is JSON: nothing in it is ever executed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pyarrow.fs import FileSystem, FileType
from ray import tune

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.objective_presets import PRESETS
from rllib_dapo.config.setting import attribute_of
from rllib_dapo.findings import SettingsError
from rllib_dapo.ray_internals import get_fs_and_path
from rllib_dapo.run.run_file import RunFile
from rllib_dapo.run.search.paired_seeds import SEEDS
from rllib_dapo.run.yaml_file import PRESET

FILE_NAME = "run.json"
_FORMAT = 1
_ABSENT = "not set"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """What a run was started with.

    Attributes:
        source: The run file.
        metric: Metric by which trials are compared, as Tune names it.
        mode: Whether more of it is better, or less.
        stop: What ends a trial: metrics and their values, and the rules.
        settings: Everything else that the run file and `--set` say, by dotted name.
        num_trials: Number of trials that the run makes; None before that is known.
    """

    source: str
    metric: str
    mode: Literal["max", "min"]
    stop: Mapping[str, Any]
    settings: Mapping[str, Any]
    num_trials: int | None = None

    def to_json(self) -> str:
        """The text of the file."""
        content = {"format": _FORMAT} | dataclasses.asdict(self)
        return json.dumps(content, indent=1, default=_as_text) + "\n"


def make_record(run_file: RunFile) -> RunRecord:
    """The record of a run that starts now.

    Args:
        run_file: As it was read, its paths made absolute.
    """
    rules = dataclasses.asdict(run_file.rules)
    tuning = dataclasses.asdict(run_file.tune)
    said = {
        **run_file.sections,
        "search": dict(run_file.search) | ({SEEDS: run_file.seeds} if run_file.seeds else {}),
        "variants": dict(run_file.variants),
        "tune": {name: value for name, value in tuning.items() if name != "name"},
    }
    record = RunRecord(
        source=run_file.source,
        metric=run_file.tune.metric,
        mode=run_file.tune.mode,
        stop=dict(run_file.stop) | rules,
        settings=_dotted(said),
    )
    # What is compared later was read from JSON, so this goes through JSON too.
    return _parse(record.to_json())


def write_record(record: RunRecord, folder: str) -> None:
    """Writes a run's record into its folder or URI.

    Raises:
        OSError: If that fails.
    """
    filesystem, path = get_fs_and_path(folder)
    with filesystem.open_output_stream(f"{path}/{FILE_NAME}") as file:
        file.write(record.to_json().encode())


def read_record(folder: str) -> RunRecord | None:
    """Reads a run's record from its folder or URI; None if there is none, or it cannot be read."""
    return find_record(*get_fs_and_path(folder))


def find_record(filesystem: FileSystem, path: str) -> RunRecord | None:
    """The same in a file system that is already open."""
    file = f"{path}/{FILE_NAME}"
    if filesystem.get_file_info(file).type != FileType.File:
        return None
    with filesystem.open_input_stream(file) as stream:
        try:
            return _parse(stream.read().decode("utf-8"))
        except (ValueError, KeyError, TypeError):
            return None  # cut short, or somebody else's


def changed_settings(before: RunRecord, now: RunRecord) -> dict[str, tuple[Any, Any]]:
    """Settings by dotted name with their values then and now, without what ends a trial.

    What only one side writes is compared with its default.
    """
    names = dict.fromkeys([*before.settings, *now.settings])
    pairs = {name: (_value(before, name), _value(now, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if _differ(*pair)}


def changed_stop(before: RunRecord, now: RunRecord) -> dict[str, tuple[Any, Any]]:
    """The same for what ends a trial; None stands for a limit that is not set."""
    names = dict.fromkeys([*before.stop, *now.stop])
    pairs = {name: (before.stop.get(name), now.stop.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if _differ(*pair)}


def _value(record: RunRecord, name: str) -> Any:
    return record.settings[name] if name in record.settings else _default(record, name)


def _default(record: RunRecord, name: str) -> Any:
    """The value of a setting that nobody has written, as JSON has it."""
    if name == PRESET:
        return "dapo"
    preset = PRESETS[record.settings.get(PRESET, "dapo")]
    section, _, key = name.partition(".")
    first, *inner = key.split(".")
    config = preset(DAPOConfig())
    try:
        value = getattr(config, attribute_of(f"{section}.{first}", DAPOConfig), _ABSENT)
    except (AttributeError, KeyError):
        value = _ABSENT
    for part in inner:
        value = value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    return json.loads(json.dumps(value, default=_as_text))


def _differ(one: Any, other: Any) -> bool:
    """Whether two values differ; `1` and `1.0` do not, `1` and `true` do."""
    return one != other or isinstance(one, bool) != isinstance(other, bool)


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _dotted(value, f"{prefix}{name}.")
        elif not isinstance(value, Mapping):
            flat[f"{prefix}{name}"] = value
    return flat


def _as_text(value: Any) -> str:
    return f"{value.__module__}:{value.__qualname__}" if isinstance(value, type) else str(value)


def _parse(text: str) -> RunRecord:
    content = json.loads(text)
    if content.pop("format") != _FORMAT or content["mode"] not in ("max", "min"):
        raise ValueError("another format")
    return RunRecord(**content)


class TrialCount(tune.Callback):
    """Writes into the record how many trials a run makes, once Tune knows."""

    def __init__(self, folder: str) -> None:
        """Waits for Tune to begin.

        Args:
            folder: The run's folder or URI.
        """
        self._folder = folder

    def setup(self, *_: Any, total_num_samples: int | None = None, **__: Any) -> None:
        """Tune calls this before the first trial starts."""
        record = read_record(self._folder)
        # A resumed run counts only what it has yet to make.
        if record is not None and record.num_trials is None and total_num_samples:
            write_record(dataclasses.replace(record, num_trials=total_num_samples), self._folder)


def refuse_without_record(folder: str) -> RunRecord:
    """Reads the record of a run that is to be resumed.

    Raises:
        SettingsError: If there is none.
    """
    record = read_record(folder)
    if record is None:
        raise SettingsError(
            f"--resume: {folder} has no {FILE_NAME}, so this version of `rllib-dapo train` did not "
            "start it: resume it with what did, or start a new run without --resume"
        )
    return record
