"""What a checkpoint says of its run: a file beside the model's own, which every copy takes along.

It is JSON, so that reading it runs no code. It holds no weights and no secrets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rllib_dapo.checkpoint.json_values import as_json, import_name, what_it_is
from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.setting import own_settings

DESCRIPTION = "rllib_dapo_run.json"

# Settings of RLlib's that tell how a run was laid out, by their sections.
_OF_RLLIB = {
    "env_runners": ("num_env_runners",),
    "learners": ("num_learners",),
    "evaluation": ("evaluation_interval",),
}
_Tree = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunDescription:
    """A run at one of its checkpoints.

    Attributes:
        settings: Section to settings, as in a run file.
        left_out: Settings that could not be written, by dotted name, and what they were.
        training_iteration: Number of iterations before the checkpoint.
        weights_version: Version of the weights, which the draws of evaluation depend on.
        rllib_dapo: Version of this package.
    """

    settings: _Tree
    left_out: Mapping[str, str] = field(default_factory=dict)
    training_iteration: int = 0
    weights_version: int = 0
    rllib_dapo: str = ""


def describe_run(
    config: DAPOConfig, *, training_iteration: int, weights_version: int
) -> RunDescription:
    """Describes a run by its configuration.

    Args:
        config: Configuration of the run, without search spaces.
        training_iteration: Number of iterations so far.
        weights_version: Version of the weights.
    """
    values: _Tree = {}
    for setting in own_settings(type(config)).values():
        values.setdefault(setting.section, {})[setting.name] = getattr(config, setting.attribute)
    for section, names in _OF_RLLIB.items():
        values.setdefault(section, {}).update({name: getattr(config, name) for name in names})

    left_out: dict[str, str] = {}
    settings = {
        section: as_json(content, f"{section}.", left_out) for section, content in values.items()
    }
    _add_environments(settings, config, left_out)

    return RunDescription(
        settings=settings,
        left_out=left_out,
        training_iteration=training_iteration,
        weights_version=weights_version,
        rllib_dapo=version("rllib-dapo"),
    )


def write_description(description: RunDescription, folder: Path) -> None:
    """Writes the file into the folder of a model."""
    text = json.dumps(asdict(description), indent=1) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def read_description(folder: Path) -> RunDescription | None:
    """Reads the file in the folder of a model.

    Returns:
        None if there is no such file.

    Raises:
        ValueError: If it is not such a file; one line.
    """
    file = folder / DESCRIPTION
    if not file.is_file():
        return None

    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read: {' '.join(str(error).split())}") from error
    if not _is_description(content):
        raise ValueError(f"{file}: does not describe a run: remove it to go without")

    known = {name: content[name] for name in RunDescription.__slots__ if name in content}
    return RunDescription(**known)


def _add_environments(settings: _Tree, config: DAPOConfig, left_out: dict[str, str]) -> None:
    """Training's environment, and of evaluation's what is different there."""
    lost: dict[str, str] = {}
    trained_on = as_json(config.env_config, "", lost)
    settings["environment"] = {"env_config": trained_on}
    if (name := _name_of(config.env)) is not None:
        settings["environment"]["env"] = name
    elif config.env is not None:
        left_out["environment.env"] = what_it_is(config.env)
    left_out.update({f"environment.env_config.{name}": what for name, what in lost.items()})

    # RLlib's object holds training's settings with those of evaluation put over them.
    evaluated = config.get_evaluation_config_object() or config
    lost_too: dict[str, str] = {}
    asked = as_json(evaluated.env_config, "", lost_too)
    changed = {
        name: value
        for name, value in asked.items()
        if name not in trained_on or trained_on[name] != value
    }
    different: dict[str, Any] = {"env_config": changed} if changed else {}
    prefix = "evaluation.evaluation_config"
    if evaluated.env != config.env:
        if (name := _name_of(evaluated.env)) is not None:
            different["env"] = name
        else:
            left_out[f"{prefix}.env"] = what_it_is(evaluated.env)
    left_out.update(
        {f"{prefix}.env_config.{n}": what for n, what in lost_too.items() if lost.get(n) != what}
    )
    settings["evaluation"]["evaluation_config"] = different


def _name_of(env: Any) -> str | None:
    """The name of an environment in a run file; None if it has none."""
    return env if isinstance(env, str) else import_name(env)


def _is_description(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        return False
    numbers = (content.get(name, 0) for name in ("training_iteration", "weights_version"))
    return (
        all(isinstance(section, dict) for section in content["settings"].values())
        and isinstance(content.get("left_out", {}), dict)
        and all(isinstance(number, int) and number >= 0 for number in numbers)
    )
