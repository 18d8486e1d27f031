"""One engine for many clients at the same time, each with its own adapter, requests and errors.

The host lives in a Ray actor of its own (`start_host`), and a client is a `SharedEngine` in an
EnvRunner. One thread owns the engine: it steps it while there are requests, and between two steps
does what clients ask for. Calls of clients wait for it, none of them for another client.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from rllib_dapo.findings import one_line
from rllib_dapo.rollout.adapter import Adapter
from rllib_dapo.rollout.engine import Engine, EngineDiedError, FinishedResponse, Request
from rllib_dapo.rollout.fair_queue import FairQueue
from rllib_dapo.rollout.host_clients import EngineFacts, HostAnswer, HostClient
from rllib_dapo.weight_checksums import BlockPart, WeightBlock

logger = logging.getLogger(__name__)

# Seconds without a sign of life after which a client is taken for dead. It gives one every few.
SILENCE_SECONDS = 60.0
# Seconds between looks at who is silent.
_LOOK_SECONDS = 1.0


class EngineHost:
    """Holds an engine and serves clients. All methods may be called by several threads."""

    def __init__(
        self,
        make: Callable[[], Engine],
        *,
        capacity: int,
        places: int,
        silence_seconds: float = SILENCE_SECONDS,
        name: str = "",
    ) -> None:
        """Begins to make the engine, and does not wait for it.

        Args:
            make: Makes the engine; called again where one has died.
            capacity: Number of responses that the engine works on at a time.
            places: Number of clients that may have joined at a time.
            silence_seconds: Seconds without a sign of life after which a client is dropped.
            name: What Ray's dashboard calls this.
        """
        self._make = make
        self._places = places
        self._silence_seconds = silence_seconds
        self._name = name

        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)  # for the engine's thread
        self._changed = threading.Condition(self._lock)  # an engine, or a place
        self._clients: dict[str, HostClient] = {}
        self._queue = FairQueue(capacity)
        self._jobs: list[tuple[Callable[[Engine], Any], Future[Any]]] = []
        self._facts: EngineFacts | None = None
        self._gone: dict[str, str] = {}  # clients that were dropped, and why
        self._keys = count()
        self._ended = ""  # why there will be no engine any more
        self._steps = 0  # of the engine
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        """Returns the name in Ray's dashboard and logs."""
        return f"EngineHost {self._name}".strip()

    def ready(self) -> bool:
        """Answers as soon as the host has its room; the engine may still be loading."""
        return True

    def is_loaded(self) -> HostAnswer:
        """Whether the engine is there."""
        return HostAnswer(value=self._facts is not None)

    def join(self, client: str, seconds: float) -> HostAnswer:
        """Makes room for a client, once the engine is there.

        Args:
            client: Name of the client, which no other has.
            seconds: How long to wait.

        Returns:
            `EngineFacts`; None if it is too early.
        """
        with self._lock:
            self._changed.wait_for(lambda: self._ended or self._has_place(), seconds)
            if self._ended:
                return HostAnswer(error=self._ended, has_died=True)
            if not self._has_place():
                return HostAnswer()
            self._clients[client] = HostClient(
                ready=threading.Condition(self._lock), last_sign=time.monotonic()
            )
            return HostAnswer(value=self._facts)

    def _has_place(self) -> bool:
        return self._facts is not None and len(self._clients) < self._places

    def sign(self, client: str) -> HostAnswer:
        """A client is alive."""
        with self._lock:
            found = self._clients.get(client)
            if found is None:
                return self._unknown(client)
            found.last_sign = time.monotonic()
            return HostAnswer()

    def exchange(self, client: str, requests: Sequence[Request], seconds: float) -> HostAnswer:
        """Takes requests of a client and returns what has ended of all that it has asked for.

        Args:
            client: The client.
            requests: New requests. Their keys are the client's own.
            seconds: How long to wait for a share of the responses that is worth a call.

        Returns:
            `FinishedResponse`s, none if none has ended meanwhile.
        """
        with self._lock:
            found = self._clients.get(client)
            if found is None:
                return self._unknown(client)
            found.last_sign = time.monotonic()
            for request in requests:
                found.asked += len(request.wanted)
                self._queue.put(client, request)
            if requests:
                self._work.notify()

            found.ready.wait_for(
                lambda: found.has_much or self._clients.get(client) is not found,
                seconds,
            )
            if self._clients.get(client) is not found:
                return self._unknown(client)
            error, found.error = found.error, ""
            return HostAnswer(value=found.fetch(), error=error, steps=self._steps)

    def load_adapter(self, client: str, adapter: Adapter) -> HostAnswer:
        """See `Engine.load_adapter`; the name is the client's own."""
        with self._lock:
            if client in self._clients:
                self._clients[client].adapters.add(adapter.name)
        own = replace(adapter, name=_adapter_name(client, adapter.name))
        return self._ask_engine(client, lambda engine: engine.load_adapter(own))

    def drop_adapter(self, client: str, name: str) -> HostAnswer:
        """See `Engine.drop_adapter`; the name is the client's own."""
        full = _adapter_name(client, name)
        return self._ask_engine(client, lambda engine: engine.drop_adapter(full))

    def adapter_checksums(
        self, client: str, name: str, blocks: Sequence[WeightBlock]
    ) -> HostAnswer:
        """See `Engine.adapter_checksums`; the name is the client's own."""
        full = _adapter_name(client, name)
        return self._ask_engine(client, lambda engine: engine.adapter_checksums(full, blocks))

    def weight_checksums(self, client: str, blocks: Sequence[WeightBlock]) -> HostAnswer:
        """See `Engine.weight_checksums`."""

        def ask(engine: Engine) -> list[BlockPart]:
            return engine.weight_checksums(blocks)

        return self._ask_engine(client, ask)

    def abort(self, client: str, keys: Collection[int] | None = None) -> HostAnswer:
        """See `Engine.abort`; the keys are the client's own."""
        return self._ask_engine(client, lambda engine: self._abort(engine, client, keys))

    def leave(self, client: str) -> HostAnswer:
        """A client needs the engine no more; nothing of it is kept."""
        return self._ask_engine(client, lambda engine: self._drop(engine, client))

    def close(self) -> None:
        """Ends the engine, and tells all clients so."""
        with self._lock:
            self._ended = self._ended or "the shared engine was closed"
            self._forget_all(self._ended)
            self._work.notify()
        self._thread.join()

    def _ask_engine(self, client: str, job: Callable[[Engine], Any]) -> HostAnswer:
        """Has the engine's thread do something for a client, and waits for it."""
        with self._lock:
            found = self._clients.get(client)
            if found is None:
                return self._unknown(client)
            found.last_sign = time.monotonic()
            future: Future[Any] = Future()
            self._jobs.append((job, future))
            self._work.notify()
        try:
            return HostAnswer(value=future.result())
        except EngineDiedError as error:
            return HostAnswer(error=one_line(error), has_died=True)
        except Exception as error:  # the client's own, which it is told
            return HostAnswer(error=one_line(error))

    def _unknown(self, client: str) -> HostAnswer:
        reason = self._ended or self._gone.get(client, "it was started anew")
        return HostAnswer(
            error=f"the shared engine does not serve this EnvRunner any more: {reason}",
            has_died=True,
        )

    # From here on, all runs in the engine's thread.

    def _serve(self) -> None:
        """Makes engines and serves clients, until the host is closed or makes no engine that works.

        An engine that has died is replaced, unless it had not given a single response.
        """
        while not self._ended:
            served = 0
            engine: Engine | None = None
            try:
                engine = self._make()
                self._begin(engine)
                while not self._ended:
                    self._wait_for_work()
                    self._do_jobs(engine)
                    self._drop_silent(engine)
                    self._admit(engine)
                    if not engine.is_idle:
                        served += self._hand_out(engine.step())
                        self._steps = engine.steps
            # Whatever a step raises, nobody knows what is left of the engine.
            except Exception as error:
                logger.exception("the shared engine has failed")
                cause = f"the shared engine has failed: {one_line(error)[:300]}"
                with self._lock:
                    self._ended = self._ended or ("" if served else cause)
                    self._forget_all(cause)
            if engine is not None:
                _close(engine)

    def _begin(self, engine: Engine) -> None:
        facts = EngineFacts(
            pid=os.getpid(),
            started=datetime.now(UTC).isoformat(timespec="milliseconds"),
            num_workers=engine.num_workers,
            takes_adapters=engine.takes_adapters,
        )
        with self._lock:
            self._facts = facts
            self._changed.notify_all()

    def _wait_for_work(self) -> None:
        """Waits where there is nothing to do; a little, for somebody may have become silent."""
        with self._lock:
            if not any(client.under_way for client in self._clients.values()):
                self._work.wait_for(
                    lambda: self._jobs or not self._queue.is_empty or self._ended, _LOOK_SECONDS
                )

    def _do_jobs(self, engine: Engine) -> None:
        with self._lock:
            jobs, self._jobs = self._jobs, []
        for number, (job, future) in enumerate(jobs):
            try:
                future.set_result(job(engine))
            except EngineDiedError as error:
                for _, waiting in jobs[number:]:
                    waiting.set_exception(error)
                raise
            except Exception as error:  # the client's own, who is told
                future.set_exception(error)

    def _admit(self, engine: Engine) -> None:
        """Gives the engine as many requests as it works on at a time."""
        with self._lock:
            while (admitted := self._queue.pop()) is not None:
                name, request = admitted
                client = self._clients[name]
                key = next(self._keys)
                sampling = request.sampling
                if sampling.adapter is not None:
                    sampling = replace(sampling, adapter=_adapter_name(name, sampling.adapter))
                try:
                    engine.add(replace(request, key=key, sampling=sampling))
                except EngineDiedError:
                    raise
                except Exception as error:  # the client's own: others are served
                    self._queue.finish(name, len(request.wanted))
                    client.asked -= len(request.wanted)
                    client.error = one_line(error)
                    client.ready.notify_all()
                else:
                    client.under_way[key] = (request.key, len(request.wanted))

    def _hand_out(self, responses: Sequence[FinishedResponse]) -> int:
        """Lays responses ready for those who have asked for them."""
        if not responses:
            return 0
        with self._lock:
            owners = {
                key: (name, client)
                for name, client in self._clients.items()
                for key in client.under_way
            }
            for response in responses:
                if response.key not in owners:  # of a client that was dropped
                    continue
                name, client = owners[response.key]
                own_key, left = client.under_way.pop(response.key)
                if left > 1:
                    client.under_way[response.key] = (own_key, left - 1)
                client.finished.append(replace(response, key=own_key))
                self._queue.finish(name)
                if client.has_much:
                    client.ready.notify_all()
        return len(responses)

    def _abort(self, engine: Engine, name: str, keys: Collection[int] | None = None) -> None:
        with self._lock:
            client = self._clients.get(name)
            if client is None:
                return
            under_way = {
                key: left
                for key, (own_key, left) in client.under_way.items()
                if keys is None or own_key in keys
            }
            engine.abort(set(under_way))
            for key in under_way:
                del client.under_way[key]
            self._queue.finish(name, sum(under_way.values()))
            removed = self._queue.remove(name, keys)
            before = len(client.finished)
            client.finished = [r for r in client.finished if keys is not None and r.key not in keys]
            client.asked -= sum(under_way.values()) + removed + before - len(client.finished)
            client.error = ""

    def _drop(self, engine: Engine, name: str) -> None:
        self._abort(engine, name)
        with self._lock:
            client = self._clients.pop(name, None)
            if client is None:
                return
            self._queue.forget(name)
            client.ready.notify_all()
            self._changed.notify_all()
        for adapter in client.adapters:
            engine.drop_adapter(_adapter_name(name, adapter))

    def _drop_silent(self, engine: Engine) -> None:
        """Drops clients that have died, or stand still: their places are others'."""
        now = time.monotonic()
        with self._lock:
            silent = [
                name
                for name, client in self._clients.items()
                if now - client.last_sign > self._silence_seconds
            ]
            reason = f"nothing was heard of it for {self._silence_seconds:g} s"
            self._gone |= dict.fromkeys(silent, reason)
        for name in silent:
            logger.warning("a client of the shared engine is dropped: %s (%s)", reason, name)
            self._drop(engine, name)

    def _forget_all(self, cause: str) -> None:
        """Tells all clients that their engine is gone."""
        self._facts = None
        for name, client in self._clients.items():
            self._gone[name] = cause
            self._queue.forget(name)
            client.ready.notify_all()
        self._clients.clear()
        self._changed.notify_all()

        jobs, self._jobs = self._jobs, []
        for _, future in jobs:
            future.set_exception(EngineDiedError(cause))


def _adapter_name(client: str, name: str) -> str:
    """An adapter's name in the engine, which clients share."""
    return f"{client}/{name}"


def _close(engine: Engine) -> None:
    """Closes an engine, of which there may be little left."""
    try:
        engine.close()
    except Exception:
        logger.exception("closing the shared engine has failed")
