"""A client of an engine that others sample from at the same time (`rollout.shared_engine`)."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from torch import Tensor

from rllib_dapo.rollout.adapter import Adapter
from rllib_dapo.rollout.engine import Engine, EngineDiedError, FinishedResponse, Request
from rllib_dapo.rollout.engine_host import SILENCE_SECONDS
from rllib_dapo.rollout.host_clients import EngineFacts, HostAnswer
from rllib_dapo.weight_checksums import BlockPart, WeightBlock

# Calls a method of the host; raises `EngineDiedError` where its process has ended.
Ask = Callable[..., HostAnswer]

# Seconds that a step waits for a share of its responses, and twice as long after each that brought
# none, up to a limit: every call takes some milliseconds of the process that samples. Environments
# that answer meanwhile wait, too.
STEP_SECONDS, _LONGEST_STEP_SECONDS = 0.2, 1.6
_SIGN_SECONDS = 3.0
_JOIN_SECONDS = 5.0
# Seconds to wait for a place, in which clients that have died are found out.
_PLACE_SECONDS = 4 * SILENCE_SECONDS


class SharedEngine(Engine):
    """Samples with an engine in another process, in which this client has its own adapters.

    Everything that belongs to one client is here as with an engine of its own. What would change
    the engine for the others is refused: whole weights, sleep.
    """

    def __init__(self, ask: Ask, *, place_seconds: float = _PLACE_SECONDS) -> None:
        """Joins, and waits until the engine is there.

        Args:
            ask: Calls a method of the `EngineHost`.
            place_seconds: How long to wait for a place, once the engine is there.

        Raises:
            EngineDiedError: If there is no engine, or it does not start; one line.
            RuntimeError: If others have all places; one line.
        """
        self._ask_host = ask
        self._client = uuid4().hex
        self._buffer: list[Request] = []
        self._outstanding: dict[int, int] = {}  # responses to come, by key
        self._step_seconds = STEP_SECONDS
        self._facts = self._join(place_seconds)

        # A client whose process dies, or that nobody holds any more, gives no more signs.
        self._left = threading.Event()
        weakref.finalize(self, self._left.set)
        threading.Thread(
            target=_give_signs, args=(ask, self._client, self._left), daemon=True
        ).start()

    def _join(self, place_seconds: float) -> EngineFacts:
        waited_since: float | None = None
        while True:
            answer = _checked(self._ask_host("join", self._client, _JOIN_SECONDS))
            if answer is not None:
                facts: EngineFacts = answer
                return facts
            if not _checked(self._ask_host("is_loaded")):
                continue
            waited_since = waited_since or time.monotonic()
            if time.monotonic() - waited_since > place_seconds:
                raise RuntimeError(
                    "rollout.shared_engine: others have all places of the engine: have fewer trials"
                    " at a time (tune.max_concurrent_trials), or give it more places "
                    "(rllib_dapo.shared_engine(config, clients=...))"
                )

    def _ask(self, method: str, *arguments: Any) -> Any:
        return _checked(self._ask_host(method, self._client, *arguments))

    @property
    def facts(self) -> dict[str, Any]:
        """See `Engine.facts`."""
        return {"pid": self._facts.pid, "started": self._facts.started}

    @property
    def num_workers(self) -> int:
        """See `Engine.num_workers`."""
        return self._facts.num_workers

    @property
    def takes_adapters(self) -> bool:
        """See `Engine.takes_adapters`."""
        return self._facts.takes_adapters

    def add(self, request: Request) -> None:
        """See `Engine.add`. Requests travel together, with the next step."""
        self.refuse_half_weights()
        self._buffer.append(request)
        self._outstanding[request.key] = len(request.wanted)

    def step(self) -> list[FinishedResponse]:
        """See `Engine.step`: waits for a response of this client, for a while."""
        self.refuse_half_weights()
        requests, self._buffer = self._buffer, []
        answer = self._ask_host("exchange", self._client, requests, self._step_seconds)
        finished: list[FinishedResponse] = _checked(answer)
        self.steps = answer.steps
        longer = min(2 * self._step_seconds, _LONGEST_STEP_SECONDS)
        self._step_seconds = STEP_SECONDS if finished or requests else longer

        for response in finished:
            self._outstanding[response.key] -= 1
            if not self._outstanding[response.key]:
                del self._outstanding[response.key]
        return finished

    @property
    def is_idle(self) -> bool:
        """See `Engine.is_idle`."""
        return not self._outstanding

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Refuses: they are all clients'."""
        raise RuntimeError(
            "rollout.shared_engine=true: an engine that others sample from takes adapters, and no "
            "whole weights: set language_model.lora, or rollout.shared_engine to false"
        )

    def load_adapter(self, adapter: Adapter) -> None:
        """See `Engine.load_adapter`."""
        self._ask("load_adapter", adapter)

    def drop_adapter(self, name: str) -> None:
        """See `Engine.drop_adapter`."""
        self._ask("drop_adapter", name)

    def adapter_checksums(self, name: str, blocks: Sequence[WeightBlock]) -> list[BlockPart]:
        """See `Engine.adapter_checksums`."""
        parts: list[BlockPart] = self._ask("adapter_checksums", name, list(blocks))
        return parts

    def weight_checksums(self, blocks: Sequence[WeightBlock]) -> list[BlockPart]:
        """See `Engine.weight_checksums`."""
        parts: list[BlockPart] = self._ask("weight_checksums", list(blocks))
        return parts

    def abort(self, keys: Collection[int] | None = None) -> None:
        """See `Engine.abort`. An engine that has died has given them up already."""
        given_up = set(self._outstanding) if keys is None else set(keys)
        self._buffer = [request for request in self._buffer if request.key not in given_up]
        for key in given_up:
            self._outstanding.pop(key, None)
        with suppress(EngineDiedError):
            self._ask("abort", None if keys is None else list(given_up))

    def close(self) -> None:
        """Leaves the engine to the others."""
        if not self._left.is_set():
            self._left.set()
            with suppress(EngineDiedError):
                self._ask("leave")


def _checked(answer: HostAnswer) -> Any:
    """The answer's value.

    Raises:
        EngineDiedError: If the engine has died.
        RuntimeError: If anything else was wrong.
    """
    if answer.has_died:
        raise EngineDiedError(answer.error)
    if answer.error:
        raise RuntimeError(answer.error)
    return answer.value


def _give_signs(ask: Ask, client: str, left: threading.Event) -> None:
    """Tells the host now and then that this process lives; it holds no reference to the client."""
    while not left.wait(_SIGN_SECONDS):
        with suppress(EngineDiedError):  # whoever samples is told
            ask("sign", client)
