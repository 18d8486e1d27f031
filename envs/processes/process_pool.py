"""Many child processes behind one queue.

Not Ray tasks: a hung task cannot be given up at a deadline without losing what its worker has
queued, and a call of a few microseconds must not take a round trip through the object store. Here
a deadline belongs to one call; whatever is behind it in the queue goes to another process.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rllib_dapo.envs.processes.killable_process import Program
from rllib_dapo.envs.processes.pool_worker import Job, PoolWorker
from rllib_dapo.envs.processes.replies import PoolClosed

SPARE_PROCESSES = 8  # how many processes may stand in for overdue ones at a time
_MAX_BATCH = 64
_MAX_BATCH_CHARACTERS = 2_000_000
_JOIN_SECONDS = 5.0


class ProcessPool:
    """Processes that all run one program, each with a thread that waits for it.

    Any thread may submit. Processes start when they are needed. They end with `close`, and with
    this process, whatever ends that.

    A process that misses a deadline, dies or passes its memory is killed and replaced, and takes
    one job along. No other job waits for it: while a process is overdue, another one stands in.
    That holds for up to `SPARE_PROCESSES` at a time. Where more are overdue at once, the jobs
    behind them wait until one of these meets its deadline: each process takes memory, and more of
    them would take longer to start than the deadline to pass.
    """

    def __init__(self, program: Program, *, seconds: float, processes: int) -> None:
        """Makes a pool; no process starts yet.

        Args:
            program: What the processes run.
            seconds: Deadline of a job that has none of its own.
            processes: How many jobs run at a time.
        """
        self._program = program
        self._seconds = seconds
        self._most = processes
        self._condition = threading.Condition()
        self._queue: deque[Job[Any]] = deque()
        self._workers: dict[threading.Thread, PoolWorker] = {}
        # Counts of threads: those that take jobs, those of them that wait for one, and those whose
        # job is overdue.
        self._active = self._idle = self._overdue = 0
        self._is_closed = False
        self._wake, self._waker = os.pipe()

    def submit(self, job: Job[Any]) -> None:
        """Puts a job into the queue and does not wait for it.

        Its future is never left open: without a reply, the job is settled with the reason.
        """
        with self._condition:
            if not self._is_closed:
                self._queue.append(job)
                self._condition.notify()
                self._grow()
                return
        job.settle(_closed())

    @property
    def pids(self) -> list[int]:
        """The numbers of the processes there are."""
        processes = [worker.process for worker in list(self._workers.values())]
        return [process.pid for process in processes if process is not None]

    def close(self) -> None:
        """Ends all processes and settles all open jobs. Closing again does nothing."""
        with self._condition:
            if self._is_closed:
                return
            self._is_closed = True
            threads = self._workers.keys() - {threading.current_thread()}
            # The byte is never read: every thread that waits for its process sees it.
            os.write(self._waker, b"\0")
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
        """Starts one more thread if jobs wait that no thread is free for. The lock is held."""
        is_needed = len(self._queue) > self._idle and self._active - self._overdue < self._most
        if self._is_closed or not is_needed or self._active >= self._most + SPARE_PROCESSES:
            return

        thread = threading.Thread(target=self._work, name="process-pool", daemon=True)
        self._workers[thread] = PoolWorker(
            self._program, seconds=self._seconds, wake=self._wake, overdue=self._while_overdue
        )
        self._active += 1
        thread.start()

    def _work(self) -> None:
        """Runs jobs in one thread until it is no longer needed or the pool is closed."""
        worker = self._workers[threading.current_thread()]
        batch: deque[Job[Any]] = deque()
        is_active = True
        try:
            while is_active := self._take(batch):
                worker.run(batch)
                self._put_back(batch)
        except PoolClosed:
            pass
        finally:
            worker.end()
            _settle(batch)
            with self._condition:
                self._active -= is_active
                del self._workers[threading.current_thread()]
                self._grow()

    def _take(self, batch: deque[Job[Any]]) -> bool:
        """Waits for jobs and fills the batch with some.

        Returns:
            False if the thread is no longer needed; it is then no longer counted as active.
        """
        with self._condition:
            while not (self._queue or self._is_closed or self._is_crowded()):
                self._idle += 1
                self._condition.wait()
                self._idle -= 1
            if self._is_closed or self._is_crowded():
                self._active -= 1
                return False

            # One message for many jobs of these kinds, but none that another process would be free
            # for.
            size = min(_MAX_BATCH, -(-len(self._queue) // self._most))
            batch.append(self._queue.popleft())
            characters = batch[0].characters
            while len(batch) < size and batch[-1].travels_with(self._queue[0]):
                characters += self._queue[0].characters
                if characters > _MAX_BATCH_CHARACTERS:
                    break
                batch.append(self._queue.popleft())
        return True

    def _put_back(self, batch: deque[Job[Any]]) -> None:
        """Returns jobs that were not done to where they came from."""
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


def _closed() -> PoolClosed:
    return PoolClosed("the pool was closed")


def _settle(jobs: deque[Job[Any]]) -> None:
    while jobs:
        jobs.popleft().settle(_closed())
