"""Checks of `rollout.sampling` and `evaluation.evaluation_sampling`."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rllib_dapo.config.value_kinds import misfit
from rllib_dapo.findings import at_least, suggest, within
from rllib_dapo.rollout.sampling_options import (
    DEPENDS_ON_TEXT,
    OPTION_NAMES,
    STRUCTURES,
    SamplingOptions,
    read_sampling_options,
)
from rllib_dapo.rollout.sampling_settings import evaluation_options

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

ROLLOUT, EVALUATION = "rollout.sampling", "evaluation.evaluation_sampling"

# Settings of their own, where somebody may look for them here.
_ELSEWHERE = {
    ROLLOUT: {
        "temperature": "rollout.temperature",
        "top_p": "rollout.top_p",
        "max_tokens": "rollout.max_response_tokens",
        "n": "training.group_size",
        "seed": "debugging.seed",
    },
    EVALUATION: {
        "temperature": "evaluation.evaluation_temperature",
        "top_p": "evaluation.evaluation_top_p",
        "max_tokens": "rollout.max_response_tokens",
        "n": "evaluation.evaluation_samples_per_prompt",
        "seed": "debugging.seed",
    },
}
_NUMBERS = ("min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
_TEXTS = ("stop", "bad_words", "choice")
# What vLLM takes.
_PENALTIES = "[-2, 2]"


def check_sampling(config: DAPOConfig) -> Iterator[str]:
    """Findings on names, kinds and ranges, and on what no Learner and no engine can do.

    Args:
        config: Configuration whose values are of their kinds.

    Yields:
        One line for each finding.
    """
    wrong = False
    for setting, given in ((ROLLOUT, config.sampling), (EVALUATION, config.evaluation_sampling)):
        for finding in _check_options(setting, given):
            wrong = True
            yield finding
    if wrong:
        return

    trained, evaluated = read_sampling_options(config.sampling), evaluation_options(config)
    for name in DEPENDS_ON_TEXT:
        if name in trained.given():
            yield (
                f"{ROLLOUT}.{name}={config.sampling[name]!r} changes probabilities by what stands "
                "before a token, which Learners do not compute: leave it out, or set it for "
                f"evaluations alone, as {EVALUATION}.{name}"
            )
    yield from _check_together(ROLLOUT, trained)
    if config.evaluation_sampling:
        yield from _check_together(EVALUATION, evaluated)
    if config.engine == "transformers":
        for name in DEPENDS_ON_TEXT:
            if name in evaluated.given() and name not in trained.given():
                yield (
                    f"{EVALUATION}.{name} needs rollout.engine=vllm, and that is "
                    f"{config.engine!r}: leave it out, or set the engine to vllm"
                )


def _check_options(setting: str, given: Mapping[str, Any]) -> Iterator[str]:
    for name, value in given.items():
        dotted = f"{setting}.{name}"
        if name not in OPTION_NAMES:
            elsewhere = _ELSEWHERE[setting].get(name)
            hint = f": use {elsewhere}" if elsewhere else suggest(str(name), OPTION_NAMES)
            yield f"unknown setting {dotted}{hint}"
        elif value is not None:
            yield from _check_option(dotted, name, value)


def _check_option(dotted: str, name: str, value: Any) -> Iterator[str]:
    """Findings on one value that is given."""
    wanted = _misfit(name, value)
    if wanted:
        yield f"{dotted}={value!r} must be {wanted}"
    elif name == "top_k":
        yield from at_least(dotted, value, 0, "0 keeps all tokens")
    elif name == "min_p":
        yield from within(dotted, value, "[0, 1]", "a share of the largest probability")
    elif name == "repetition_penalty" and not value > 0:
        yield f"{dotted}={value} must be positive; 1 switches it off"
    elif name in ("presence_penalty", "frequency_penalty"):
        yield from within(dotted, value, _PENALTIES)
    elif name in ("regex", "json_schema"):
        yield from _check_grammar(dotted, name, value)


def _misfit(name: str, value: Any) -> str | None:
    """What a value must be, or None where it is that already."""
    if name in _TEXTS:
        texts = [value] if isinstance(value, str) else value
        are_texts = isinstance(texts, Sequence) and all(isinstance(t, str) and t for t in texts)
        return None if are_texts else "a text or a list of texts, none of them empty"
    if name == "stop_token_ids":
        ids = [value] if isinstance(value, int) else value
        are_ids = isinstance(ids, Sequence) and not isinstance(ids, str)
        if are_ids and all(misfit(i, int) is None and i >= 0 for i in ids):
            return None
        return "a list of token ids"
    if name == "json_schema":
        is_schema = isinstance(value, Mapping | str)
        return None if is_schema else "a JSON schema: a mapping, or JSON as text"

    kind = {"include_stop": bool, "top_k": int, "regex": str}.get(name, float)
    return misfit(value, kind)


def _check_grammar(dotted: str, name: str, value: Any) -> Iterator[str]:
    """A finding where vLLM could not follow a regular expression or a schema."""
    if importlib.util.find_spec("llguidance") is None:  # it comes with vLLM
        return
    from llguidance import LLMatcher

    try:
        if name == "regex":
            grammar = LLMatcher.grammar_from_regex(value)
        else:
            schema = json.loads(value) if isinstance(value, str) else dict(value)
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema))
        reason = LLMatcher.validate_grammar(grammar)
    except (ValueError, TypeError) as error:
        reason = str(error)
    if reason:
        yield f"{dotted} cannot be followed: {' '.join(reason.split())[:200]}"


def _check_together(setting: str, options: SamplingOptions) -> Iterator[str]:
    """Findings on options that exclude each other."""
    asked = [name for name in STRUCTURES if name in options.given()]
    if len(asked) > 1:
        yield f"{setting}: {' and '.join(asked)} exclude each other: keep one of them"
    if not options.include_stop and not (options.stop or options.stop_token_ids):
        yield (
            f"{setting}.include_stop=False does nothing without stop or stop_token_ids: give one "
            "of them, or leave it out"
        )
    if math.isclose(options.min_p, 1.0) and setting == ROLLOUT:
        yield (
            f"{setting}.min_p={options.min_p} leaves the likeliest token alone, so that all "
            "responses are equal: set it lower"
        )
    if options.top_k == 1 and setting == ROLLOUT:
        yield (
            f"{setting}.top_k=1 leaves the likeliest token alone, so that all responses are equal: "
            "set it to 0 or more than 1"
        )
