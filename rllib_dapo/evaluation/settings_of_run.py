"""The settings that a checkpoint's run sampled and evaluated with, as the checkpoint tells them.

They are read as JSON alone: a pickle from elsewhere may run code. Whether the model may run code of
its own is never taken from there, nor is anything of the standard library that they name. A class
or function of anybody else's is looked up by its name among the modules of this machine.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym

from rllib_dapo.checkpoint.json_values import NAME_KEY
from rllib_dapo.checkpoint.run_description import DESCRIPTION, RunDescription, read_description
from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.setting import attribute_of, section_kinds
from rllib_dapo.envs.adapters.references import resolve_reference
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.learner.model_folder import MODULE_PATH
from rllib_dapo.run.environments import resolve_environment
from rllib_dapo.run.yaml_file import Tree

PARAMS = "params.json"  # what Tune leaves beside the checkpoints of a trial

# What an evaluation takes from a run, beside the environment and all of `rollout`.
_TAKEN = {
    "evaluation": (
        "evaluation_num_prompts",
        "evaluation_samples_per_prompt",
        "evaluation_temperature",
        "evaluation_top_p",
        "evaluation_sampling",
    ),
    "language_model": ("dtype", "system_prompt"),
    "debugging": ("seed",),
}
_CODE_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_][\w.-]*", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsOfRun:
    """What is known of the run of a model.

    Attributes:
        tree: Section to settings; empty if nothing is known.
        source: File that tells it, for messages; empty if there is none.
        weights_version: Version of the weights in the run.
        left_out: Settings that the file could not hold, by dotted name, and what they were.
        notes: What a user should know, one line each.
    """

    tree: Tree = field(default_factory=dict)
    source: str = ""
    weights_version: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def environment(self) -> Any:
        """The environment that the run evaluated on."""
        changed = self.tree.get("evaluation", {}).get("evaluation_config", {})
        return changed.get("env") or self.tree.get("environment", {}).get("env")


def read_settings_of_run(place: str, checkpoint: Path | None) -> SettingsOfRun:
    """Reads what is known of the run that a model comes from.

    Args:
        place: Path of the model or checkpoint, or another name of a model.
        checkpoint: The folder, where it is a checkpoint.

    Raises:
        SettingsError: If a file that should tell it cannot be read.
    """
    folder = Path(place).expanduser() if checkpoint is None else checkpoint / MODULE_PATH
    try:
        description = read_description(folder)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if description is not None:
        return _of_description(description, folder / DESCRIPTION)

    params = None if checkpoint is None else checkpoint.parent / PARAMS
    if params is None or not params.is_file():
        return SettingsOfRun()
    return _of_params(params)


def find_environment(env: Any, of_run: SettingsOfRun) -> Any:
    """Finds an environment by its name.

    Args:
        env: What was given by hand or by a file, or what the run had.
        of_run: Settings of the run. An environment that only they name must be one.

    Raises:
        SettingsError: If there is no such environment; one line.
    """
    if env != of_run.environment or not of_run.source:
        return resolve_environment(env)

    way_out = "name one with --env"
    _refuse_standard_library(env, "environment.env", of_run.source, way_out)
    try:
        found = resolve_environment(env)
    except SettingsError as error:
        raise SettingsError(f"{of_run.source}: {error}; {way_out}") from error
    if isinstance(found, type) and not issubclass(found, gym.Env):
        raise SettingsError(
            f"{of_run.source}: environment.env={env!r} is not a gymnasium.Env: {way_out}"
        )
    return found


def with_objects(settings: Any, stored: Any, setting: str, source: str) -> Any:
    """Settings with the classes and functions whose names stand in them.

    Args:
        settings: Settings of an environment, at any depth.
        stored: What the run had in this place. Where it had a class or a function, a text
            `module:name` that was given by hand stands for one, too.
        setting: Dotted name of the settings.
        source: File that the run's settings are from.

    Raises:
        SettingsError: If there is no such class or function; one line.
    """
    if _is_name(settings):
        name = settings[NAME_KEY]
        _refuse_standard_library(name, setting, source, f"--set {setting}={name} if you want it")
        return _imported(name, f"{source}: {setting}")
    if _is_name(stored) and isinstance(settings, str):
        return _imported(settings, setting)

    if isinstance(settings, Mapping):
        below = stored if isinstance(stored, Mapping) else {}
        return {
            name: with_objects(value, below.get(name), f"{setting}.{name}", source)
            for name, value in settings.items()
        }
    if isinstance(settings, list):
        return [with_objects(value, None, setting, source) for value in settings]

    if settings == stored:
        way_out = f"--set {setting}={settings} if you want it"
        _refuse_standard_library(settings, setting, source, way_out)
    return settings


def differences(of_run: Tree, asked: Tree) -> list[str]:
    """Settings that are not those of the run, as `name=value (other value in the run)`.

    Args:
        of_run: Section to settings of the run.
        asked: All settings of the evaluation.
    """
    before, now = dict(_flat(of_run)), dict(_flat(asked))
    return [
        f"{name}={now[name]!r} ({value!r} in the run)"
        for name, value in before.items()
        if name in now and now[name] != value
    ]


def _of_description(description: RunDescription, file: Path) -> SettingsOfRun:
    given, notes = description.settings, []
    tree: Tree = {}
    for section, names in _taken_names().items():
        content = given.get(section, {})
        tree[section] = {name: content[name] for name in names if name in content}
    unknown = sorted(set(given.get("rollout", {})) - set(_taken_names()["rollout"]))
    if unknown:
        made_with = f"rllib-dapo {description.rllib_dapo}"
        notes.append(
            f"{file} is from {made_with} and has settings that this version does not know: "
            f"{', '.join(f'rollout.{name}' for name in unknown)}"
        )

    for section, name in (("environment", None), ("evaluation", "evaluation_config")):
        content = given.get(section, {})
        content = content if name is None else content.get(name) or {}
        if not isinstance(content, dict):
            raise SettingsError(f"{file}: {section}.{name}={content!r} must have settings under it")
        kept = {key: content[key] for key in ("env", "env_config") if key in content}
        tree.setdefault(section, {}).update(kept if name is None else {name: kept})

    if given.get("language_model", {}).get("trust_remote_code"):
        notes.append(
            "the run let code that comes with the model run: if you trust it, add --set "
            "language_model.trust_remote_code=true"
        )
    notes += _without_engine_names(tree)

    return SettingsOfRun(
        tree=tree,
        source=str(file),
        weights_version=description.weights_version,
        left_out=description.left_out,
        notes=tuple(notes),
    )


def _of_params(file: Path) -> SettingsOfRun:
    """What stands in Tune's file beside the checkpoints of an earlier version of this package."""
    try:
        params = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file}: cannot be read: {one_line(error)}") from error
    if not isinstance(params, dict):
        raise SettingsError(f"{file}: does not hold the settings of a run")

    tree: Tree = {}
    for section, names in _taken_names().items():
        attributes = {name: attribute_of(f"{section}.{name}", DAPOConfig) for name in names}
        tree[section] = {n: params[a] for n, a in attributes.items() if a in params}

    changed = params.get("evaluation_config") or {}
    kept = {name: changed[name] for name in ("env", "env_config") if name in changed}
    tree["evaluation"]["evaluation_config"] = kept

    # A class stands there as a text that is good for nothing.
    env, left_out = params.get("env"), {}
    if isinstance(env, str) and not env.startswith("<"):
        tree["environment"] = {"env": env, "env_config": params.get("env_config") or {}}
    elif env is not None:
        left_out["environment.env"] = str(env)
    notes = _without_engine_names(tree)
    return SettingsOfRun(tree=tree, source=str(file), left_out=left_out, notes=tuple(notes))


def _taken_names() -> dict[str, tuple[str, ...]]:
    """The names that are taken of each section."""
    return {"rollout": tuple(section_kinds(DAPOConfig, "rollout")), **_TAKEN}


def _without_engine_names(tree: Tree) -> list[str]:
    """Takes what may name code out of `rollout.engine_kwargs`; returns a line for each setting."""
    given = tree.get("rollout", {}).get("engine_kwargs")
    if not isinstance(given, dict):
        return []

    kept = {
        name: value
        for name, value in given.items()
        if isinstance(value, int | float) and name != "trust_remote_code"
    }
    tree["rollout"]["engine_kwargs"] = kept
    return [
        f"rollout.engine_kwargs.{name}={value!r} of the run is not taken from a checkpoint: if you "
        f"want it, add --set rollout.engine_kwargs.{name}=..."
        for name, value in given.items()
        if name not in kept
    ]


def _is_name(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() == {NAME_KEY}


def _imported(name: Any, setting: str) -> Any:
    try:
        return resolve_reference(setting, name)
    except ValueError as error:
        raise SettingsError(one_line(error)) from error


def _refuse_standard_library(name: Any, setting: str, source: str, way_out: str) -> None:
    """A file from elsewhere must not choose among functions that delete files or start programs."""
    if not isinstance(name, str) or not _CODE_NAME.fullmatch(name):
        return
    if name.partition(":")[0].partition(".")[0] in sys.stdlib_module_names:
        raise SettingsError(
            f"{source}: {setting}={name!r} names code of Python's standard library: {way_out}"
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their dotted names."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and not _is_name(value):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
