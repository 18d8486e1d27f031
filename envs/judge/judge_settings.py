"""What a judge is and how it may be asked: the settings of `judge` in a reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rllib_dapo.envs.env_settings import check_integer, is_finite_number, merge_settings
from rllib_dapo.envs.judge.answer_parser import AnswerParser
from rllib_dapo.envs.judge.endpoint_settings import (
    ENDPOINT_DEFAULTS,
    EndpointSettings,
    check_text,
    read_endpoint,
)
from rllib_dapo.envs.judge.judge_template import JudgeTemplate

_DEFAULTS: Mapping[str, Any] = {
    **ENDPOINT_DEFAULTS,
    "template": None,
    "parser": None,
    "range": None,
    "system": None,
    "temperature": 0.0,
    "max_tokens": 256,
    "extra_body": None,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeSettings(EndpointSettings):
    """A judge: a language model that is asked in words.

    Attributes:
        template: What it is asked.
        parser: Reads its answer.
        system: The system message; None: none.
        temperature: Of its sampling.
        max_tokens: Most tokens of its answer.
        extra_body: Further fields of the request.
    """

    template: JudgeTemplate
    parser: AnswerParser
    system: str | None = None
    temperature: float = 0.0
    max_tokens: int = 256
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)


def check_judge_settings(setting: str, given: Any) -> JudgeSettings:
    """Reads the settings of a judge.

    Args:
        setting: Name of the setting, for messages.
        given: A mapping.

    Raises:
        ValueError: If one of them is refused; one line, without the key.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"{setting}={given!r}: must be a mapping with url, model, template, ...")
    value = merge_settings(setting, _DEFAULTS, given)

    def name(key: str) -> str:
        return f"{setting}.{key}"

    if not is_finite_number(value["temperature"]) or value["temperature"] < 0:
        raise ValueError(f"{name('temperature')}={value['temperature']!r}: must be at least 0")
    extra = value["extra_body"] or {}
    if not isinstance(extra, Mapping):
        raise ValueError(f"{name('extra_body')}={extra!r}: must be a mapping")
    system = value["system"]

    return JudgeSettings(
        **read_endpoint(setting, value),
        template=JudgeTemplate.of(name("template"), value["template"]),
        parser=AnswerParser.of(name("parser"), value["parser"], value["range"]),
        system=None if system is None else check_text(name("system"), system),
        temperature=float(value["temperature"]),
        max_tokens=check_integer(name("max_tokens"), value["max_tokens"], low=1),
        extra_body=dict(extra),
    )
