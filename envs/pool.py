"""Scoring in processes that can be killed.

What a model writes can keep a scorer busy for ever, crash it or fill the memory. So a scorer that
may do that runs in a process of its own, with a deadline for every call; a process that misses it,
dies or passes its memory is killed and replaced, and the call's verdict is *missing*. Nobody else's
is lost, or waits for it: while a process is overdue, another one takes its place.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from rllib_dapo.envs.verify.calls import Call, Rule, prepare
from rllib_dapo.envs.verify.process import Closed
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, missing
from rllib_dapo.envs.verify.worker import Worker

_MAX_PROCESSES = 4  # by default: one that has loaded a library for mathematics holds about 100 MB
_SPARE_PROCESSES = 8  # how many overdue ones are stood in for at a time
_MAX_BATCH = 64
_MAX_CHARACTERS = 2_000_000  # of one call
_JOIN_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSettings:
    """What a pool is like; environments with equal settings share one.

    Attributes:
        seconds: The deadline of one call.
        memory_mib: What calls may take, in MiB, beyond what their process holds once the rules are
            loaded.
        processes: How many calls run at a time; None: one for each core, up to 4.
    """

    seconds: float = 5.0
    memory_mib: int = 1024
    processes: int | None = None


class VerifierPool:
    """Processes that score, each with a thread that waits for it. Any thread may ask.

    Processes start when they are needed. They end with `close`, and with this process, whatever
    ends that.
    """

    def __init__(self, settings: PoolSettings | None = None) -> None:
        """Makes a pool; no process starts yet.

        Args:
            settings: Deadline, memory and number of processes.
        """
        self.settings = settings or PoolSettings()
        self._most = self.settings.processes or min(_MAX_PROCESSES, os.cpu_count() or 1)
        self._condition = threading.Condition()
        self._queue: deque[Call] = deque()
        self._workers: dict[threading.Thread, Worker] = {}
        # Counts of threads: those that take calls, those of them that wait for one, those whose
        # call takes long.
        self._active = self._idle = self._overdue = 0
        self._is_closed = False
        self._wake, self._waker = os.pipe()

    def submit(self, rule: Rule, *arguments: str | float) -> Future[Verdict]:
        """Asks for a verdict and does not wait for it.

        Args:
            rule: A name from `ANSWER_RULES`, a function, or what `prepare` makes of either.
            *arguments: What the rule is called with: for those of `ANSWER_RULES` the response and
                the ground truth.

        Returns:
            A future that never raises and cannot be cancelled: where scoring fails, its result is a
            missing verdict that says why.

        Raises:
            ValueError: If there is no such rule, or if the function cannot be sent to another
                process.
        """
        call = Call(rule=prepare(rule), arguments=arguments, verdict=Future())
        call.verdict.set_running_or_notify_cancel()
        if call.characters > _MAX_CHARACTERS:
            call.verdict.set_result(
                missing(MissingReason.TOO_LONG, f"a text of {call.characters} characters")
            )
            return call.verdict
        with self._condition:
            if self._is_closed:
                call.verdict.set_result(_closed())
            else:
                self._queue.append(call)
                self._condition.notify()
                self._grow()
        return call.verdict

    def results(self, verdicts: Iterable[Future[Verdict]]) -> list[Verdict]:
        """Waits for verdicts and returns them in order."""
        return [verdict.result() for verdict in verdicts]

    @property
    def pids(self) -> list[int]:
        """The numbers of the processes there are."""
        processes = [worker.process for worker in list(self._workers.values())]
        return [process.pid for process in processes if process is not None]

    def close(self) -> None:
        """Ends all processes; verdicts not given yet are missing. Closing again does nothing."""
        with self._condition:
            if self._is_closed:
                return
            self._is_closed = True
            threads = self._workers.keys() - {threading.current_thread()}
            os.write(
                self._waker, b"\0"
            )  # is left there: every thread that waits for its process sees it
            self._condition.notify_all()
        until = time.monotonic() + _JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        with self._condition:
            _settle(self._queue)
        if not any(thread.is_alive() for thread in threads):
            os.close(self._wake)
            os.close(self._waker)

    def _grow(self) -> None:
        """Starts one more thread where calls wait and none is free to take them; the lock is held."""
        if (
            self._is_closed
            or len(self._queue) <= self._idle
            or self._active - self._overdue >= self._most
        ):
            return
        if self._active < self._most + _SPARE_PROCESSES:
            thread = threading.Thread(target=self._work, name="verifier", daemon=True)
            self._workers[thread] = Worker(
                seconds=self.settings.seconds,
                memory_mib=self.settings.memory_mib,
                wake=self._wake,
                overdue=self._while_overdue,
            )
            self._active += 1
            thread.start()

    def _work(self) -> None:
        """The life of a thread."""
        worker = self._workers[threading.current_thread()]
        batch: deque[Call] = deque()
        is_active = True
        try:
            while is_active := self._take(batch):
                worker.score(batch)
                self._put_back(batch)
        except Closed:
            pass
        finally:
            worker.end()
            _settle(batch)
            with self._condition:
                self._active -= is_active
                del self._workers[threading.current_thread()]
                self._grow()

    def _take(self, batch: deque[Call]) -> bool:
        """Waits for calls and fills the batch with some; False where the thread is no longer needed (nor counted)."""
        with self._condition:
            while not (self._queue or self._is_closed or self._is_crowded()):
                self._idle += 1
                self._condition.wait()
                self._idle -= 1
            if self._is_closed or self._is_crowded():
                self._active -= 1
                return False
            size = min(_MAX_BATCH, -(-len(self._queue) // self._most))
            batch.append(self._queue.popleft())
            characters = batch[0].characters
            while len(batch) < size and batch[-1].rule.is_quick and self._queue[0].rule.is_quick:
                characters += self._queue[0].characters
                if characters > _MAX_CHARACTERS:
                    break
                batch.append(self._queue.popleft())
        return True

    def _put_back(self, batch: deque[Call]) -> None:
        """Returns calls that have no verdict to where they came from."""
        if batch:
            with self._condition:
                self._queue.extendleft(reversed(batch))
                batch.clear()
                self._condition.notify()
                self._grow()

    def _is_crowded(self) -> bool:
        """Whether one that stood in for another is no longer needed."""
        return self._active - self._overdue > self._most

    @contextmanager
    def _while_overdue(self) -> Iterator[None]:
        with self._condition:
            self._overdue += 1
            self._grow()
        try:
            yield
        finally:
            with self._condition:
                self._overdue -= 1


class PoolLease:
    """A share in the pool of this process that has certain settings; the pool closes with its last lease."""

    def __init__(self, settings: PoolSettings) -> None:
        """Takes the share.

        Args:
            settings: The pool's. Where there is none like that in this process, one is made.
        """
        # A forked copy of this process has the pool's memory, but neither its threads nor its
        # processes.
        key = (os.getpid(), settings)
        with _lock:
            self.pool, count = _pools.get(key) or (VerifierPool(settings), 0)
            _pools[key] = (self.pool, count + 1)
        # Also where an environment is forgotten unclosed, and at the end of this process.
        self.release = weakref.finalize(self, _release, key)


_pools: dict[tuple[int, PoolSettings], tuple[VerifierPool, int]] = {}
_lock = threading.RLock()  # a forgotten environment may be collected while it is held


def _release(key: tuple[int, PoolSettings]) -> None:
    with _lock:
        pool, count = _pools.pop(key)
        if count > 1:
            _pools[key] = (pool, count - 1)
            return
    if key[0] == os.getpid():
        pool.close()


def _closed() -> Verdict:
    return missing(MissingReason.CRASH, "the pool was closed")


def _settle(calls: deque[Call]) -> None:
    while calls:
        calls.popleft().verdict.set_result(_closed())
