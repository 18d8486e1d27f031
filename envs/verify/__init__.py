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
    "exact_integer",
    "last_number",
    "math_verify",
    "missing",
    "numeric",
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
    }
)
SLOW_RULES = frozenset({"math_verify"})


def check_rule(name: str, value: Any) -> str:
    """Returns the rule's name; `math-verify`, the library's own spelling, is known too.

    Raises:
        ValueError: If there is no such rule.
    """
    return check_choice(name, "math_verify" if value == "math-verify" else value, ANSWER_RULES)
