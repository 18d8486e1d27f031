"""A rule in the form in which it travels to the processes that score."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rllib_dapo.envs.verify import ANSWER_RULES, SLOW_RULES

# An answer rule bounds its own CPU time. The clock on the wall is there for a machine that is
# broken, not for one that is busy.
RULE_PATIENCE = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SentRule:
    """A rule as processes know it.

    Attributes:
        name: One of `ANSWER_RULES`, or a fingerprint of the function.
        function: A pickled function, in base64; empty for one of `ANSWER_RULES`.
        patience: How many times the pool's deadline a call may take.
        least_seconds: What it may take whatever that is.
        is_async: Whether the function is written with `async def`; many calls then wait at a time.
    """

    name: str
    function: str = field(default="", repr=False)
    patience: float = 1.0
    least_seconds: float = 0.0
    is_async: bool = False

    @property
    def is_quick(self) -> bool:
        """Whether it takes microseconds, never hangs, and needs nothing loaded."""
        return not self.function and self.name not in SLOW_RULES


Rule: TypeAlias = str | Callable[..., Any] | SentRule


def prepare(
    rule: Rule, *, patience: float = 1.0, least_seconds: float = 0.0, is_async: bool = False
) -> SentRule:
    """Makes a rule ready for sending; worth doing once where it is used often.

    Args:
        rule: A name from `ANSWER_RULES`, or a function of texts that returns a `Verdict`, a bool or
            a number, or a list of verdicts. One that another process can import is sent by name,
            any other whole.
        patience: How many times the pool's deadline a call of a function may take.
        least_seconds: What such a call may take whatever that is.
        is_async: Whether the function is written with `async def`.

    Raises:
        ValueError: If the name is unknown, or if the function cannot be sent.
    """
    if isinstance(rule, SentRule):
        return rule
    if isinstance(rule, str):
        if rule not in ANSWER_RULES:
            raise ValueError(
                f"rule={rule!r}: must be one of {', '.join(ANSWER_RULES)}, or a function"
            )
        return SentRule(name=rule, patience=RULE_PATIENCE)

    import cloudpickle

    # What pickling raises is as open as what a user's object holds.
    try:
        pickled = cloudpickle.dumps(rule)
    except Exception as error:
        raise ValueError(
            f"{rule!r} cannot be sent to another process: {type(error).__name__}: {error}"
        ) from error

    fingerprint = hashlib.blake2b(pickled, digest_size=16).hexdigest()
    return SentRule(
        name=fingerprint,
        function=base64.b64encode(pickled).decode(),
        patience=patience,
        least_seconds=least_seconds,
        is_async=is_async,
    )
