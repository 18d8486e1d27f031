"""What `rllib-dapo data` is asked: which files, read how, for which model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from rllib_dapo.envs.adapters.reward_function import RewardFunctionEnv
from rllib_dapo.envs.env_settings import check_template, merge_settings
from rllib_dapo.envs.math import MathEnv
from rllib_dapo.envs.schema import SIDES
from rllib_dapo.envs.verify import check_rule
from rllib_dapo.findings import SettingsError, one_line


@dataclass(frozen=True, kw_only=True, slots=True)
class DataRequest:
    """Which data is to be described.

    Attributes:
        path: The setting `path`.
        columns: The setting `columns`.
        template: The setting `template`.
        max_prompt_characters: The setting of this name.
        has_reward: Whether a reward function judges responses, so that answers are optional and may
            be anything.
        answer_rule: The setting `answer_rule`; None with a reward function.
    """

    path: Any
    columns: Mapping[str, Any] | None
    template: str
    max_prompt_characters: int
    has_reward: bool
    answer_rule: str | None


def data_request(
    paths: Sequence[str], columns: Sequence[str], env_config: Mapping[str, Any]
) -> DataRequest:
    """Reads the command's arguments.

    Args:
        paths: Paths, patterns, folders, or data sets as `{dataset: NAME, split: train}`.
        columns: Texts `side=column`; the same side may be named several times.
        env_config: Settings of `Math-v0`, or of `RewardFunction-v0` if `reward` is among them.

    Raises:
        SettingsError: If one of them cannot be read, or a setting is unknown.
    """
    environment = RewardFunctionEnv if "reward" in env_config else MathEnv
    given = merge_settings(environment.__name__, environment.default_settings, env_config)
    path = [_path(text) for text in paths]

    named: dict[str, list[str]] = {}
    for text in columns:
        side, _, name = text.partition("=")
        if side not in SIDES or not name:
            raise SettingsError(
                f"--columns {text}: write it as SIDE=COLUMN, where SIDE is one of "
                f"{', '.join(SIDES)}"
            )
        named.setdefault(side, []).append(name)

    return DataRequest(
        path=path[0] if len(path) == 1 else path,
        columns={**(given["columns"] or {}), **named} or None,
        template=check_template("env_config.template", given["template"], "problem"),
        max_prompt_characters=given["max_prompt_characters"],
        has_reward=environment is RewardFunctionEnv,
        answer_rule=_rule(given.get("answer_rule")),
    )


def _rule(value: Any) -> str | None:
    return None if value is None else check_rule("env_config.answer_rule", value)


def _path(text: str) -> Any:
    if not text.startswith("{"):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{text}: cannot be read: {one_line(error)}") from None
