"""What a run file means: sections are `DAPOConfig`'s methods, keys their arguments.

Beside those sections a file may hold `search` (dotted names and their search spaces), `tune` (see `TuneSettings`) and
`stop` (metrics and the values at which a trial ends). Nothing is loaded or started here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from rllib_dapo.config import DAPOConfig
from rllib_dapo.environments import resolve_environment
from rllib_dapo.models.names import SMOLLM2, TINY
from rllib_dapo.run_file import SettingsError, Tree, one_line, parse_override, put, read_run_file
from rllib_dapo.setting_names import TuneSettings, check_names, flat_metrics

_SPACES: Mapping[str, Callable[[Any], Any]] = {
    "grid": tune.grid_search,
    "choice": tune.choice,
    "uniform": lambda bounds: tune.uniform(*bounds),
    "loguniform": lambda bounds: tune.loguniform(*bounds),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """All that a run file and its overrides say.

    Attributes:
        name: Of the run.
        source: The file, for messages.
        config: The trials' configuration; values to be searched are Tune's search spaces.
        variants: Configurations without search spaces which between them hold the ends of every space: what to check.
        stop: Metric to the value at which a trial ends, as Tune names metrics.
        tune: Section `tune`.
        data_hint: Where the file says that its data is to be had.
    """

    name: str
    source: str
    config: DAPOConfig
    variants: tuple[DAPOConfig, ...]
    stop: Mapping[str, float]
    tune: TuneSettings
    data_hint: str = ""


def read_settings(path: Path, overrides: Sequence[str] = ()) -> RunSettings:
    """Reads a run file.

    Args:
        path: The YAML file.
        overrides: Texts `dotted.name=value`, as after `--set`; they win over the file.

    Raises:
        SettingsError: If the file cannot be read, or a name or the kind of a value in it is wrong.
    """
    source = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    tree, data_hint = read_run_file(path)
    check_names(tree, source)
    for override in overrides:
        tree = _override(tree, override)
    search = tree.pop("search", {})
    tuning = TuneSettings(**tree.pop("tune", {}))
    stop = flat_metrics(tree.pop("stop", {}))
    tree = _with_absolute_paths(tree)
    if "env" in tree.get("environment", {}):
        tree = put(tree, "environment.env", resolve_environment(tree["environment"]["env"]))
    return RunSettings(
        name=tuning.name or path.stem,
        source=source,
        config=_build(tree, {name: _space(space) for name, space in search.items()}, source),
        variants=tuple(_build(tree, values, source) for values in _corners(search)),
        stop=stop,
        tune=dataclasses.replace(tuning, metric=tuning.metric.replace(".", "/")),
        data_hint=data_hint,
    )


def _override(tree: Tree, text: str) -> Tree:
    name, value = parse_override(text)
    source = f"--set {text}"
    section, _, key = name.partition(".")
    if section in ("search", "stop"):  # their keys are dotted names
        change = {section: {key: value}}
        changed = {**tree, section: {**tree.get(section, {}), key: value}}
    else:
        change = put({}, name, value)
        changed = put(tree, name, value)
    check_names(change, source)
    # What is given by hand is not searched for.
    if name in changed.get("search", {}):
        changed["search"] = {key: space for key, space in changed["search"].items() if key != name}
    return changed


def _space(space: Tree) -> Any:
    kind, values = next(iter(space.items()))
    return _SPACES[kind](values)


def _corners(search: Tree) -> Iterator[dict[str, Any]]:
    """Each end of each space in turn, with the first value of all others."""
    ends = {name: next(iter(space.values())) for name, space in search.items()}
    first = {name: values[0] for name, values in ends.items()}
    yield first
    for name, values in ends.items():
        for value in values[1:]:
            yield {**first, name: value}


def _build(tree: Tree, values: Mapping[str, Any], source: str) -> DAPOConfig:
    """A configuration from sections and from values at dotted names."""
    for name, value in values.items():
        tree = put(tree, name, value)
    config = DAPOConfig()
    for section, settings in tree.items():
        try:
            getattr(config, section)(**settings)
        except (ValueError, TypeError, AttributeError) as error:
            raise SettingsError(f"{source}: {section}: {one_line(error)}") from error
    return config


def _with_absolute_paths(tree: Tree) -> Tree:
    """Files as seen from here: Ray's workers run in other folders."""
    tree = dict(tree)
    model = tree.get("language_model", {}).get("name")
    if isinstance(model, str) and model not in (TINY, SMOLLM2) and Path(model).expanduser().is_dir():
        tree = put(tree, "language_model.name", str(Path(model).expanduser().absolute()))
    for name in ("environment.env_config", "evaluation.evaluation_config.env_config"):
        section, *inner = name.split(".")
        settings = tree.get(section, {})
        for key in inner:
            settings = settings.get(key) or {}
        if isinstance(settings, dict) and "path" in settings:
            tree = put(tree, f"{name}.path", _absolute(settings["path"]))
    return tree


def _absolute(path: Any) -> Any:
    if isinstance(path, list):
        return [_absolute(one) for one in path]
    return str(Path(path).expanduser().absolute()) if isinstance(path, str) else path
