"""How an engine draws beyond temperature and top-p: `rollout.sampling`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

# What each of these does to a token depends on the tokens before it, or on a grammar.
DEPENDS_ON_TEXT = (
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "bad_words",
    "regex",
    "choice",
    "json_schema",
)
# At most one of them: what a response must look like.
STRUCTURES = ("regex", "choice", "json_schema")


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingOptions:
    """What `rollout.sampling` and `evaluation.evaluation_sampling` hold.

    Attributes:
        stop: Texts that end a response as soon as one of them is complete.
        stop_token_ids: Tokens that end a response, beside the model's own.
        include_stop: Whether the tokens of what has ended a response belong to it. A token in which
            a stop string begins after other text always does, as does a response's first token.
        top_k: Number of likeliest tokens that are sampled from; 0 for all.
        min_p: Least probability of a token, as a share of the likeliest one's.
        repetition_penalty: Divides logits over 0, and multiplies those below, of every token in
            prompt or response.
        presence_penalty: Taken from the logit of every token in the response.
        frequency_penalty: Taken from it as many times as the token is there.
        bad_words: Texts that are not written.
        regex: Regular expression that the response matches.
        choice: Texts of which the response is one.
        json_schema: JSON schema that the response keeps, as JSON.
    """

    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop: bool = True
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    bad_words: tuple[str, ...] = ()
    regex: str | None = None
    choice: tuple[str, ...] = ()
    json_schema: str | None = None

    def given(self) -> dict[str, Any]:
        """The options that are not as they are by default, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in values.items() if value != defaults[name]}


OPTION_NAMES = tuple(field.name for field in fields(SamplingOptions))


def read_sampling_options(given: Mapping[str, Any]) -> SamplingOptions:
    """The options of a mapping that was checked (`config.sampling_checks`).

    Args:
        given: Values by name. A text may stand for a list of one, and null for a default.
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name in ("stop", "stop_token_ids", "bad_words", "choice"):
            value = (value,) if isinstance(value, str | int) else tuple(value)
        if name == "json_schema" and not isinstance(value, str):
            value = json.dumps(value)
        values[name] = value
    return SamplingOptions(**values)
