"""An environment that is being examined: calls to it, and what they and the checks have found."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from rllib_dapo.env_check.environment_finding import Fault, Finding
from rllib_dapo.env_check.environment_process import Called, EnvironmentProcess

SEEDS = tuple(range(12))
TAME_TEXTS = ("1", "something", "Answer: 1", "The answer is 5.", "yes")
# A slow environment is not asked everything: each check stops after this long.
PATIENCE_SECONDS = 20.0

T = TypeVar("T")


class Examined:
    """The environment as checks see it.

    Attributes:
        found: The findings by their causes.
        env: Where the environment is; number 0 is the one that `reset` and `step` call.
        elsewhere: Another process, for comparing.
        numeric: The spaces that cannot hold texts, `observation` and `action`, as they are shown.
        seconds: How long the calls of `reset` and `step` took.
        prompts: The prompts by seed, from before any response but one.
        outcomes: What ended the episodes.
        is_cut_short: Whether a check took too long to ask everything.
    """

    def __init__(self, here: EnvironmentProcess, elsewhere: EnvironmentProcess) -> None:
        """Takes processes that have been given the environment."""
        self.found: dict[str, Finding] = {}
        self.env, self.elsewhere = here, elsewhere
        self.numeric: Mapping[str, str] = {}
        self.seconds: dict[str, list[float]] = {"reset": [], "step": []}
        self.prompts: dict[int, Called] = {}
        self.outcomes: list[Called] = []
        self.is_cut_short = False

    def note(self, finding: Finding) -> None:
        """Keeps a finding, unless its cause has been met before."""
        self.found.setdefault(finding.cause or finding.fault, finding)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keeps the fault of a check that cannot go on."""
        try:
            yield
        except Fault as fault:
            self.note(fault.finding)

    def reset(self, seed: int | None, number: int = 0) -> Called:
        """Resets the environment and keeps what is wrong with what it returns.

        Raises:
            Fault: If it gives no prompt.
        """
        called = self.env.reset(seed, number)
        self._keep("reset", called)
        return called

    def step(self, text: str, number: int = 0) -> Called:
        """Steps the environment and keeps what is wrong with what it returns.

        Raises:
            Fault: If it gives what no episode can go on with.
        """
        called = self.env.step(text, number)
        self._keep("step", called)
        if called.is_over or called.reason:
            self.outcomes.append(called)
        return called

    def patiently(self, items: Iterable[T]) -> Iterator[T]:
        """The items, as long as the check that goes through them has not taken too long."""
        until = time.monotonic() + PATIENCE_SECONDS
        for item in items:
            if time.monotonic() > until:
                self.is_cut_short = True
                return
            yield item

    @property
    def can_step(self) -> bool:
        """Whether `step` can be used at all, and has not yet ended its process."""
        return bool(self.seconds["step"]) and "step lost" not in self.found

    @property
    def is_lost(self) -> bool:
        """Whether a call hung or ended its process: any other may do so again, after a while."""
        return any(cause.endswith("lost") for cause in self.found)

    def _keep(self, method: str, called: Called) -> None:
        self.seconds[method].append(called.seconds)
        for finding in called.findings:
            self.note(finding)
