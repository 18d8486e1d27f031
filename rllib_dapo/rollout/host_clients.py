"""What the host of a shared engine and its clients tell each other, and what it keeps of each."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from rllib_dapo.rollout.engine import FinishedResponse

# Responses are fetched in about so many calls: the last ones alone, many at first. A call takes
# some milliseconds of the process that samples.
_BATCHES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class HostAnswer:
    """What a call of a client brings back. Errors travel as text: a client makes them its own.

    Attributes:
        value: The result.
        error: What was wrong with the call, in one line; empty if nothing was.
        has_died: Whether the engine has died, or has forgotten the client.
        steps: See `Engine.steps`; of an `exchange` alone.
    """

    value: Any = None
    error: str = ""
    has_died: bool = False
    steps: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineFacts:
    """What a client is told when it joins.

    Attributes:
        pid: Process id of the engine.
        started: When it was started (UTC).
        num_workers: See `Engine.num_workers`.
        takes_adapters: See `Engine.takes_adapters`.
    """

    pid: int
    started: str
    num_workers: int
    takes_adapters: bool


@dataclass(kw_only=True, slots=True)
class HostClient:
    """A client that has joined.

    Attributes:
        ready: Notified when there is something for it.
        last_sign: When it was last heard of.
        under_way: Key in the engine -> the client's own key, and responses that are still to come.
        finished: Responses that it has not fetched yet.
        asked: Number of responses that it has asked for and not fetched.
        adapters: Its adapters' own names.
        error: What was wrong with one of its requests.
    """

    ready: threading.Condition
    last_sign: float
    under_way: dict[int, tuple[int, int]] = field(default_factory=dict)
    finished: list[FinishedResponse] = field(default_factory=list)
    asked: int = 0
    adapters: set[str] = field(default_factory=set)
    error: str = ""

    @property
    def has_much(self) -> bool:
        """Whether it is worth a call to fetch what has ended, or there is an error."""
        return bool(self.error) or len(self.finished) >= max(1, self.asked // _BATCHES)

    def fetch(self) -> list[FinishedResponse]:
        """Takes all that has ended."""
        finished, self.finished = self.finished, []
        self.asked -= len(finished)
        return finished
