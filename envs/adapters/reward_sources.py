"""Where rewards come from: rules, functions, programs, heuristics, models, and their sums."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from rllib_dapo.envs.adapters.called_functions import (
    function_source,
    group_source,
    is_async,
    one_by_one,
)
from rllib_dapo.envs.adapters.references import resolve_reference
from rllib_dapo.envs.adapters.weighted_reward import FUNCTIONS, Component, WeightedReward
from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.code.code_reward import CODE_OPTIONS, code_reward
from rllib_dapo.envs.env_settings import check_choice, is_finite_number
from rllib_dapo.envs.judge.judge_settings import check_judge_settings
from rllib_dapo.envs.judge.judge_source import judge_source
from rllib_dapo.envs.judge.reward_model_settings import check_reward_model_settings
from rllib_dapo.envs.verify import ANSWER_RULES, SLOW_RULES, Verdict, check_rule

_KINDS = (
    *("rule", "function", "code", "regex", "keywords", "classifier", "group"),
    *("judge", "reward_model"),
)
_OPTIONS = {"classifier": ("label", "max_tokens"), "code": CODE_OPTIONS}
_HOW = (
    'must be a function, "package.module:function", or a mapping from names to components, each '
    f"with one of {', '.join(_KINDS)} and perhaps a weight, such as "
    '{"format": {"regex": "^[0-9]+$", "weight": 0.5}}'
)
_LOOKED_AT = 20_000  # characters of a response that heuristics search

_RewardSource: TypeAlias = Callable[[Problem, str], Verdict]


def make_reward(value: Any, *, success_at: Any = None) -> WeightedReward:
    """Reads the setting `reward`.

    Args:
        value: A function of prompt and response (and answer, if it takes three, and `columns`, if
            it takes an argument of that name), `"package.module:function"`, or a mapping from names
            to components. A component is a mapping with one of `rule` (an answer rule's name),
            `function`, `group` (a function of all responses to a prompt), `code` ("python": the
            response's program against the problem's tests, see `code.code_reward`), `regex` (1 if
            it is found, else 0), `keywords` (the share of them that is found), `classifier` (a
            model's folder, with `label` and `max_tokens`), `judge` (settings of a `Judge`) or
            `reward_model` (settings of a `RewardModel`), and perhaps a `weight`. A single component
            may stand without a name, as in `{"rule": "strict"}`.
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
        parts: tuple[Component, ...] = (
            Component(
                name=_name_of(function),
                kind="function",
                weight=1.0,
                source=function_source(_callable("reward", function)),
                is_async=is_async(function),
            ),
        )
    elif not value:
        raise ValueError(f"reward={value!r}: {_HOW}")
    elif _is_component(value):
        [kind] = [kind for kind in _KINDS if kind in value]
        parts = (_component(kind, value),)
    else:
        parts = tuple(_component(str(name), part) for name, part in value.items())

    return WeightedReward(
        components=parts, success_at=None if success_at is None else float(success_at)
    )


def _is_component(value: Mapping[Any, Any]) -> bool:
    """Whether a mapping is one component, and not components that are called like kinds of them."""
    kinds = [kind for kind in _KINDS if kind in value]
    if len(kinds) != 1:
        return False
    given = value[kinds[0]]
    return not (isinstance(given, Mapping) and any(kind in given for kind in _KINDS))


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

    part: dict[str, Any] = {"name": name, "weight": float(weight)}
    value, where = given[kind], f"{setting}.{kind}"
    if kind in FUNCTIONS:
        function = _callable(where, resolve_reference(where, value))
        make = function_source if kind == "function" else group_source
        return Component(kind=kind, source=make(function), is_async=is_async(function), **part)
    if kind == "judge":
        settings = check_judge_settings(where, value)
        part["columns"] = tuple(settings.template.columns)
        return Component(kind=kind, source=judge_source(settings), is_async=True, **part)
    if kind == "reward_model":
        model = check_reward_model_settings(where, value)
        part["columns"] = tuple(model.template.columns) if model.template else ()
        return Component(kind=kind, source=judge_source(model), is_async=True, **part)

    if kind == "code":
        programs = code_reward(where, value, **options)
        part["least_seconds"] = programs.longest_seconds
        return Component(kind=kind, source=one_by_one(programs), **part)

    source = one_by_one(_source(where, kind, value, options))
    if kind == "rule" and check_rule(setting, value) in SLOW_RULES:
        kind = "slow rule"
    return Component(kind=kind, source=source, **part)


def _source(setting: str, kind: str, value: Any, options: Mapping[str, Any]) -> _RewardSource:
    if kind == "rule":
        rule = ANSWER_RULES[check_rule(setting, value)]
        return lambda problem, response: rule(response, problem.answer)
    if kind == "regex":
        return _regex(setting, value)
    if kind == "keywords":
        return _keywords(setting, value)

    # The only source that needs torch and transformers.
    from rllib_dapo.envs.adapters.classifier import classifier_reward

    return classifier_reward(setting, value, **options)


def _callable(setting: str, function: Any) -> Callable[..., Any]:
    if not callable(function):
        raise ValueError(f"{setting}={function!r}: {_HOW}")
    called: Callable[..., Any] = function
    return called


def _regex(setting: str, value: Any) -> _RewardSource:
    try:
        pattern = re.compile(value, re.DOTALL)
    except (re.error, TypeError) as error:
        raise ValueError(f"{setting}={value!r}: is not a regular expression ({error})") from None
    return lambda problem, response: _grade(pattern.search(response[:_LOOKED_AT]) is not None)


def _keywords(setting: str, value: Any) -> _RewardSource:
    listed = value if isinstance(value, list | tuple) else []
    if not listed or not all(isinstance(word, str) and word for word in listed):
        raise ValueError(f"{setting}={value!r}: must be a list of texts")
    words = [word.casefold() for word in listed]

    def source(problem: Problem, response: str) -> Verdict:
        text = response[:_LOOKED_AT].casefold()
        return _grade(sum(word in text for word in words) / len(words))

    return source


def _grade(value: float) -> Verdict:
    return Verdict(is_correct=None, reward=float(value))


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
