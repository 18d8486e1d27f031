"""What becomes of an environment's faults: a reason for what is missing, and one warning."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from rllib_dapo.envs.hosts.hosted_env import OUT_OF_MEMORY
from rllib_dapo.envs.hosts.outcomes import BadOutcome, ResetOutcome, one_line
from rllib_dapo.envs.messages import Conversation
from rllib_dapo.envs.processes.replies import DeadlineMissed, ProcessFailure, ServiceFailed
from rllib_dapo.envs.shown_value import shown
from rllib_dapo.envs.tools import Tool
from rllib_dapo.envs.verify import MissingReason

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PATIENCE_SECONDS = 60.0  # of waiting for environments in silence
_NEEDS_MAIN_THREAD = (
    "; environments run beside the engine's thread, and verify_in='process' gives this one a main "
    "thread of its own"
)


class EnvironmentFault(Exception):
    """Something that an environment did wrong; the message is the reason for what is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptReset:
    """What the first reset with a seed gave.

    Attributes:
        seed: The seed.
        prompt: What the model reads; None if the environment gave no prompt.
        reason: Why it did not, in one line.
        is_bad: Whether it returned what is no prompt, which it is likely to do again.
        tools: The tools that the model may call.
        max_turns: How many responses an episode may have; None if the environment does not say.
    """

    seed: int
    prompt: str | Conversation | None
    reason: str = ""
    is_bad: bool = False
    tools: tuple[Tool, ...] = ()
    max_turns: int | None = None

    @classmethod
    def lost(cls, seed: int, fault: EnvironmentFault) -> PromptReset:
        """Returns what is left of a reset that failed."""
        is_bad = isinstance(fault.__cause__, BadOutcome)
        return cls(seed=seed, prompt=None, reason=str(fault), is_bad=is_bad)


class EnvironmentGuard:
    """Calls environments. Whatever they do wrong becomes a reason, told once for each kind of it.

    Safe to use from any thread.

    Args:
        name: What the environment is called, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._told: set[tuple[str, str]] = set()
        self._lock = Lock()

    def call(self, what: str, seed: int, function: Callable[[], T]) -> T:
        """Calls a function that has an environment do something, and reads what comes of it.

        Args:
            what: What the environment is asked for, such as "step".
            seed: Reset seed of the episode.
            function: The call.

        Raises:
            EnvironmentFault: If it raises anything.
        """
        # A user's environment may raise anything, `sys.exit` included, on what a model has written.
        try:
            return function()
        except EnvironmentFault as fault:
            self._tell_once(what, seed, fault)
            raise
        except (Exception, SystemExit) as error:
            raised = EnvironmentFault(_reason(what, error))
            self._tell_once(what, seed, raised, error)
            raise raised from error

    def _tell_once(
        self, what: str, seed: int, fault: EnvironmentFault, error: BaseException | None = None
    ) -> None:
        # An environment with a bug fails on every response.
        kind = type(error).__name__ if error else str(fault).partition(":")[0]
        with self._lock:
            if (what, kind) in self._told:
                return
            self._told.add((what, kind))
        is_users_own = error is not None and not isinstance(error, ProcessFailure | BadOutcome)
        logger.warning(
            "%s: %s of seed %d: %s (said once)",
            self._name,
            what,
            seed,
            fault,
            exc_info=error if is_users_own else None,
        )


def results_of(resets: Sequence[Future[PromptReset]]) -> list[PromptReset]:
    """Waits for resets, and says so where that takes long."""
    _, late = wait(resets, _PATIENCE_SECONDS)
    if late:
        logger.warning(
            "%d of %d resets of the environment take more than %g s. "
            "environment.env_config.verify_in=process bounds every call by verify_seconds",
            len(late),
            len(resets),
            _PATIENCE_SECONDS,
        )
    return [future.result() for future in resets]


def refuse_another_problem(seed: int, first: ResetOutcome, again: ResetOutcome) -> None:
    """Compares what two resets with one seed gave.

    Raises:
        EnvironmentFault: If prompts, answers or tools differ: a response to the first would be
            judged by the second.
    """
    for name in ("prompt", "answer", "tools"):
        one, other = getattr(first, name), getattr(again, name)
        if one != other:
            raise EnvironmentFault(
                f"{MissingReason.NOT_SEEDED}: reset(seed={seed}) gave the {name} {shown(one)}, and "
                f"then {shown(other)}"
            )


def _reason(what: str, error: BaseException) -> str:
    told = one_line(str(error))
    if isinstance(error, DeadlineMissed):
        return f"{MissingReason.TIMEOUT}: {what}: {told}"
    if isinstance(error, BadOutcome):
        return f"{MissingReason.CRASH}: {told}"
    if isinstance(error, ServiceFailed) and not told.startswith(OUT_OF_MEMORY):
        return f"{MissingReason.CRASH}: the environment raised {told}"
    if isinstance(error, ProcessFailure):
        return f"{MissingReason.CRASH}: {what}: {told}"

    hint = _NEEDS_MAIN_THREAD if "main thread" in told and isinstance(error, ValueError) else ""
    return f"{MissingReason.CRASH}: the environment raised {type(error).__name__}: {told}{hint}"
