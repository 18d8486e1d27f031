r"""Rules that tell whether a response holds the right answer.

Each is a pure function of the response and the ground truth. Responses are untrusted: nothing is
evaluated as code, nothing raises, and only a bounded end of the response is looked at. No text
takes a rule more than a few milliseconds, except those in `SLOW_RULES`, which belong in a process
of the `VerifierPool`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from rllib_dapo.envs.env_settings import check_choice
from rllib_dapo.envs.verify.answer_line import strict
from rllib_dapo.envs.verify.box import boxed
from rllib_dapo.envs.verify.dapo_recipe import (
    dapo_recipe,
    dapo_recipe_box,
    dapo_recipe_or_box,
)
from rllib_dapo.envs.verify.number import exact_integer, last_number, numeric
from rllib_dapo.envs.verify.symbolic import math_verify
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, VerdictKind, missing

__all__ = [
    "ANSWER_RULES",
    "SLOW_RULES",
    "AnswerRule",
    "MissingReason",
    "Verdict",
    "VerdictKind",
    "boxed",
    "check_rule",
    "dapo_recipe",
    "dapo_recipe_box",
    "dapo_recipe_or_box",
    "exact_integer",
    "ideal_response",
    "last_number",
    "math_verify",
    "missing",
    "numeric",
    "rules_that_read",
    "strict",
]

AnswerRule = Callable[..., Verdict]  # of response, ground truth, and the rule's own settings

ANSWER_RULES: Mapping[str, AnswerRule] = MappingProxyType(
    {
        "strict": strict,
        "boxed": boxed,
        "numeric": numeric,
        "last_number": last_number,
        "exact_integer": exact_integer,
        "math_verify": math_verify,
        "dapo_recipe": dapo_recipe,
        "dapo_recipe_box": dapo_recipe_box,
        "dapo_recipe_or_box": dapo_recipe_or_box,
    }
)
SLOW_RULES = frozenset({"math_verify"})
_BOX_RULES = frozenset({"boxed", "dapo_recipe_box", "math_verify"})


def check_rule(name: str, value: Any) -> str:
    """Returns the rule's name; `math-verify`, the library's own spelling, is known too.

    Raises:
        ValueError: If there is no such rule.
    """
    return check_choice(name, "math_verify" if value == "math-verify" else value, ANSWER_RULES)


def ideal_response(rule: str, answer: str) -> str:
    """Returns a response that a rule accepts, if it can accept the ground truth at all.

    It is written like the ground truth, so every rule is quick about it: none asks a library.
    """
    if rule == "exact_integer":
        return answer
    return rf"\boxed{{{answer}}}" if rule in _BOX_RULES else f"Answer: {answer}"


def rules_that_read(answer: str) -> tuple[str, ...]:
    """Returns the names of the rules that accept a ground truth as the right response to itself.

    Empty where no response can be right under any rule; so for an empty answer, although the
    recipe's rules would take it for equal to a unit alone. Takes a few milliseconds at most.
    """
    if not answer.strip():
        return ()
    return tuple(
        name
        for name, rule in ANSWER_RULES.items()
        if rule(ideal_response(name, answer), answer).is_correct
    )
