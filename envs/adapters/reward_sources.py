"""Where rewards come from: rules, functions, programs, heuristics, classifiers, and their sums."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from rllib_dapo.envs.adapters.references import resolve_reference
from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.code.code_reward import CODE_OPTIONS, CodeReward, code_reward
from rllib_dapo.envs.env_settings import check_choice, is_finite_number
from rllib_dapo.envs.verify import (
    ANSWER_RULES,
    SLOW_RULES,
    MissingReason,
    Verdict,
    check_rule,
    missing,
)
from rllib_dapo.envs.verify.sent_rule import RULE_PATIENCE

RewardSource: TypeAlias = Callable[[Problem, str], Verdict]

_KINDS = ("rule", "function", "code", "regex", "keywords", "classifier")
_OPTIONS = {"classifier": ("label", "max_tokens"), "code": CODE_OPTIONS}
_HOW = (
    'must be a function, "package.module:function", or a mapping from names to components, each '
    f"with one of {', '.join(_KINDS)} and perhaps a weight, such as "
    '{"format": {"regex": "^[0-9]+$", "weight": 0.5}}'
)
_LOOKED_AT = 20_000  # characters of a response that heuristics search


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """One part of a reward.

    Attributes:
        name: Name under which it is reported.
        kind: One of "rule", "slow rule", "function", "code", "regex", "keywords" and "classifier".
        weight: Factor of its value in the sum.
        source: The function that judges the response.
    """

    name: str
    kind: str
    weight: float
    source: RewardSource


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightedReward:
    """The weighted sum of its components.

    Attributes:
        components: At least one.
        success_at: Least sum of a response that counts as correct. None: the first component that
            knows correct from wrong decides, and if none does, the reward is a mere grade.
    """

    components: tuple[Component, ...]
    success_at: float | None = None

    @property
    def needs_process(self) -> bool:
        """Whether it runs what may hang or takes long: a function, a program, a library's rule.

        A classifier cannot hang, and is too large for the processes that score.
        """
        kinds = {part.kind for part in self.components}
        return bool(kinds & {"function", "slow rule", "code"}) and "classifier" not in kinds

    @property
    def has_rule(self) -> bool:
        """Whether a component compares the response with the ground truth."""
        return any(part.kind in ("rule", "slow rule") for part in self.components)

    @property
    def has_code(self) -> bool:
        """Whether a component runs programs, so that every problem needs tests."""
        return any(part.kind == "code" for part in self.components)

    @property
    def patience(self) -> float:
        """How many times the deadline of a function it may take, see `SentRule`."""
        kinds = {part.kind for part in self.components}
        if "slow rule" not in kinds:
            return 1.0
        return 2.0 if "function" in kinds else RULE_PATIENCE

    @property
    def least_seconds(self) -> float:
        """Time that programs may take, whatever the deadline: they have limits of their own."""
        sources = (part.source for part in self.components)
        return sum(one.longest_seconds for one in sources if isinstance(one, CodeReward))

    def __call__(self, problem: Problem, response: str) -> Verdict:
        """Judges a response.

        If one component has no verdict there is none at all: it is never a silent 0.

        Returns:
            The verdict, with each component's own value by name, before its weight; NaN for one
            without a verdict.
        """
        verdicts = {part.name: part.source(problem, response) for part in self.components}
        values = {name: _value(verdict) for name, verdict in verdicts.items()}
        prediction = next(
            (verdict.prediction for verdict in verdicts.values() if verdict.prediction), ""
        )

        lacking = [
            f"{verdicts[name].reason} ({name})"
            for name, value in values.items()
            if math.isnan(value)
        ]
        if lacking:
            return Verdict(
                is_correct=None, prediction=prediction, reason="; ".join(lacking), components=values
            )

        total = sum(part.weight * values[part.name] for part in self.components)
        known = (
            verdict.is_correct for verdict in verdicts.values() if verdict.is_correct is not None
        )
        is_correct = next(known, None) if self.success_at is None else total >= self.success_at
        return Verdict(
            is_correct=is_correct, reward=total, prediction=prediction, components=values
        )

    def of_texts(self, prompt: str, answer: str, problem_id: str, response: str) -> Verdict:
        """Judges a response to a problem that is given by its parts."""
        return self(Problem(prompt=prompt, answer=answer, problem_id=problem_id), response)


def make_reward(value: Any, *, success_at: Any = None) -> WeightedReward:
    """Reads the setting `reward`.

    Args:
        value: A function of prompt and response (and answer, if it takes three),
            `"package.module:function"`, or a mapping from names to components. A component is a
            mapping with one of `rule` (an answer rule's name), `function`, `code` ("python": the
            response's program against the problem's tests, see `code.code_reward`), `regex` (1 if
            it is found, else 0), `keywords` (the share of them that is found) or `classifier` (a
            model's folder, with `label` and `max_tokens`), and perhaps a `weight`.
        success_at: The setting of this name, see `WeightedReward`.

    Raises:
        ValueError: If one of the two is refused.
    """
    if success_at is not None and not is_finite_number(success_at):
        raise ValueError(f"success_at={success_at!r}: must be a number, or None")

    if not isinstance(value, Mapping):
        if value is None:
            raise ValueError(f"reward={value!r}: {_HOW}")
        function = resolve_reference("reward", value)
        source = _function("reward", function)
        parts: tuple[Component, ...] = (
            Component(name=_name_of(function), kind="function", weight=1.0, source=source),
        )
    elif not value:
        raise ValueError(f"reward={value!r}: {_HOW}")
    else:
        parts = tuple(_component(str(name), part) for name, part in value.items())

    return WeightedReward(
        components=parts, success_at=None if success_at is None else float(success_at)
    )


def _component(name: str, given: Any) -> Component:
    setting = f"reward.{name}"
    if not isinstance(given, Mapping):
        given = {"function": given}

    kinds = [kind for kind in _KINDS if kind in given]
    if len(kinds) != 1:
        raise ValueError(f"{setting}={given!r}: must have exactly one of {', '.join(_KINDS)}")
    kind = kinds[0]

    options = {key: value for key, value in given.items() if key not in (kind, "weight")}
    for key in options:
        check_choice(f"{setting}: the option", key, ("weight", *_OPTIONS.get(kind, ())))
    weight = given.get("weight", 1.0)
    if not is_finite_number(weight):
        raise ValueError(f"{setting}.weight={weight!r}: must be a number")

    source = _source(f"{setting}.{kind}", kind, given[kind], options)
    if kind == "rule" and check_rule(setting, given[kind]) in SLOW_RULES:
        kind = "slow rule"
    return Component(name=name, kind=kind, weight=float(weight), source=source)


def _source(setting: str, kind: str, value: Any, options: Mapping[str, Any]) -> RewardSource:
    if kind == "rule":
        rule = ANSWER_RULES[check_rule(setting, value)]
        return lambda problem, response: rule(response, problem.answer)
    if kind == "function":
        return _function(setting, resolve_reference(setting, value))
    if kind == "code":
        return code_reward(setting, value, **options)
    if kind == "regex":
        return _regex(setting, value)
    if kind == "keywords":
        return _keywords(setting, value)

    # The only source that needs torch and transformers.
    from rllib_dapo.envs.adapters.classifier import classifier_reward

    return classifier_reward(setting, value, **options)


def _function(setting: str, function: Any) -> RewardSource:
    """Wraps `function(prompt, response)` or `function(prompt, response, answer)`.

    A prompt that is a conversation is handed over as one text, in which each message begins with
    its role.
    """
    if not callable(function):
        raise ValueError(f"{setting}={function!r}: {_HOW}")
    try:
        inspect.signature(function).bind("prompt", "response", "answer")
    except TypeError:
        return lambda problem, response: _as_verdict(function(problem.text, response))
    return lambda problem, response: _as_verdict(function(problem.text, response, problem.answer))


def _as_verdict(result: Any) -> Verdict:
    """Reads what a user's function returned.

    That may be a number, a bool (correct or not), None (no verdict) or a verdict.
    """
    if isinstance(result, Verdict):
        return result
    if isinstance(result, bool | np.bool_):
        return Verdict(is_correct=bool(result))
    if result is None:
        return missing(MissingReason.CRASH, "the function returned None")
    if not is_finite_number(result):
        return missing(MissingReason.CRASH, f"the function returned {result!r:.80}")
    return Verdict(is_correct=None, reward=float(result))


def _regex(setting: str, value: Any) -> RewardSource:
    try:
        pattern = re.compile(value, re.DOTALL)
    except (re.error, TypeError) as error:
        raise ValueError(f"{setting}={value!r}: is not a regular expression ({error})") from None
    return lambda problem, response: _grade(pattern.search(response[:_LOOKED_AT]) is not None)


def _keywords(setting: str, value: Any) -> RewardSource:
    listed = value if isinstance(value, list | tuple) else []
    if not listed or not all(isinstance(word, str) and word for word in listed):
        raise ValueError(f"{setting}={value!r}: must be a list of texts")
    words = [word.casefold() for word in listed]

    def source(problem: Problem, response: str) -> Verdict:
        text = response[:_LOOKED_AT].casefold()
        return _grade(sum(word in text for word in words) / len(words))

    return source


def _value(verdict: Verdict) -> float:
    """Returns the reward of a verdict: its own, or +1 or -1 (Eq. 7 of the DAPO paper), or NaN."""
    if verdict.reward is not None:
        return verdict.reward
    return math.nan if verdict.is_correct is None else 1.0 if verdict.is_correct else -1.0


def _grade(value: float) -> Verdict:
    return Verdict(is_correct=None, reward=float(value))


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
