"""What a reward model behind HTTP is: the settings of `reward_model` in a reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rllib_dapo.envs.env_settings import check_integer, merge_settings
from rllib_dapo.envs.judge.endpoint_settings import (
    ENDPOINT_DEFAULTS,
    EndpointSettings,
    read_endpoint,
)
from rllib_dapo.envs.judge.judge_template import JudgeTemplate

_DEFAULTS: Mapping[str, Any] = {
    **ENDPOINT_DEFAULTS,
    "template": None,
    "label": None,
    "max_tokens": None,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardModelSettings(EndpointSettings):
    """A model that reads prompt and response and gives a number, behind a server of vLLM's.

    Attributes:
        template: The text that it reads; None: prompt and response as a conversation, in the
            server's own chat template.
        label: Number of the output whose probability counts; None: the model has one output, and
            that is the reward as it is.
        max_tokens: How many tokens it reads, counted from the end; None: the server refuses what is
            too long for the model.
    """

    template: JudgeTemplate | None = None
    label: int | None = None
    max_tokens: int | None = None


def check_reward_model_settings(setting: str, given: Any) -> RewardModelSettings:
    """Reads the settings of a reward model.

    Args:
        setting: Name of the setting, for messages.
        given: A mapping.

    Raises:
        ValueError: If one of them is refused; one line, without the key.
    """
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{setting}={given!r}: must be a mapping with url and model of a server; a model's "
            "folder is the setting classifier"
        )
    value = merge_settings(setting, _DEFAULTS, given)
    template, label, longest = value["template"], value["label"], value["max_tokens"]
    return RewardModelSettings(
        **read_endpoint(setting, value),
        template=None if template is None else JudgeTemplate.of(f"{setting}.template", template),
        label=None if label is None else check_integer(f"{setting}.label", label, low=0),
        max_tokens=(
            None if longest is None else check_integer(f"{setting}.max_tokens", longest, low=1)
        ),
    )
