"""Scoring in processes that can be killed.

What a model writes can keep a scorer busy for ever, crash it or fill the memory. So a scorer that
may do that runs in a process of its own, with a deadline for every call; a process that misses it,
dies or passes its memory is killed and replaced, and the call's verdict is *missing*. Nobody else's
verdict is lost, or waits for it, as long as no more than eight processes beyond those of the
settings are overdue at once (see `ProcessPool`).

An answer rule is different: a model that is wrong must not escape its -1 by writing what cannot be
judged. What a response costs `math_verify` beyond a bound of CPU time is *wrong*, unless the ground
truth alone costs as much (see `symbolic`); and of a response that is too long to be sent, a rule
gets the end.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from rllib_dapo.envs.processes.killable_process import Program
from rllib_dapo.envs.processes.pool_worker import Job, Load
from rllib_dapo.envs.processes.process_pool import ProcessPool
from rllib_dapo.envs.processes.replies import (
    DeadlineMissed,
    LoadFailed,
    ProcessFailure,
    Reply,
    no_reply,
)
from rllib_dapo.envs.verify.sent_rule import Rule, SentRule, prepare
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, missing
from rllib_dapo.envs.verify.verdict_service import LONGEST_TEXT

_MAX_PROCESSES = 4  # by default: one that has loaded a library for mathematics holds about 100 MB
_MAX_CHARACTERS = 2_000_000  # of one call
_END_CHARACTERS = 100_000  # more than any rule looks at
_LONGEST_REPLY = 1 << 20  # bytes; no verdict takes more
_SERVICE = "rllib_dapo.envs.verify.verdict_service:VerdictService"


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSettings:
    """What a pool is like; environments with equal settings share one.

    Attributes:
        seconds: Deadline of one call of a function, by the clock; and the CPU time that a response
            may cost an answer rule.
        memory_mib: How much calls may take, in MiB, beyond what their process holds once the rules
            are loaded.
        processes: How many calls run at a time; None: one for each core, up to 4.
    """

    seconds: float = 5.0
    memory_mib: int = 1024
    processes: int | None = None


class VerifierPool:
    """Processes that score. Any thread may ask.

    Processes start when they are needed. They end with `close`, and with this process, whatever
    ends that.
    """

    def __init__(self, settings: PoolSettings | None = None) -> None:
        """Makes a pool; no process starts yet.

        Args:
            settings: Deadline, memory and number of processes.
        """
        self.settings = settings or PoolSettings()
        self._pool = ProcessPool(
            Program(
                service=_SERVICE,
                settings={"cpu_seconds": self.settings.seconds},
                memory_allowance=self.settings.memory_mib << 20,
                longest_reply=_LONGEST_REPLY,
            ),
            seconds=self.settings.seconds,
            processes=self.settings.processes or min(_MAX_PROCESSES, os.cpu_count() or 1),
        )

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
        return self._submit(prepare(rule), arguments, None)

    def submit_group(self, rule: Rule, *arguments: str | float, size: int) -> Future[list[Verdict]]:
        """Asks for the verdicts on a group of responses, as `submit` does for one.

        Args:
            rule: A function that returns a list of verdicts, or what `prepare` makes of it.
            *arguments: What the rule is called with.
            size: Number of responses. The rule has its deadline for each of them.

        Returns:
            As from `submit`; where scoring fails, all verdicts are missing.
        """
        return self._submit(prepare(rule), arguments, size)

    def _submit(
        self, sent: SentRule, arguments: tuple[str | float, ...], size: int | None
    ) -> Future[Any]:
        verdict: Future[Any] = Future()
        verdict.set_running_or_notify_cancel()

        characters = _characters(arguments)
        if characters > _MAX_CHARACTERS and not sent.function:
            response, *others = arguments
            # A rule looks at the end alone, or else for nothing but its answer.
            arguments = (f"...{str(response)[-_END_CHARACTERS:]}", *others)
            characters = _characters(arguments)
        if characters > _MAX_CHARACTERS:
            told = f"a text of {characters} characters"
            none = missing(MissingReason.TOO_LONG, told)
            verdict.set_result(none if size is None else [none] * size)
            return verdict

        load = Load(key=sent.name, content=[sent.name, sent.function])
        deadline = max(self.settings.seconds * sent.patience, sent.least_seconds)
        seconds = deadline * (size or 1)
        job = Job(
            content=[sent.name, arguments, seconds],
            future=verdict,
            read=partial(_read if size is None else partial(_read_group, size), seconds=seconds),
            characters=characters,
            is_quick=sent.is_quick,
            is_async=sent.is_async,
            # What is awaited keeps its deadline itself, unless it never gives way to the others.
            seconds=2 * seconds if sent.is_async else seconds,
            load=None if sent.is_quick else load,
        )
        self._pool.submit(job)
        return verdict

    def results(self, verdicts: Iterable[Future[Verdict]]) -> list[Verdict]:
        """Waits for verdicts and returns them in order."""
        return [verdict.result() for verdict in verdicts]

    @property
    def pids(self) -> list[int]:
        """The numbers of the processes there are."""
        return self._pool.pids

    def close(self) -> None:
        """Ends all processes; verdicts not given yet are missing. Closing again does nothing."""
        self._pool.close()


class PoolLease:
    """A share in the pool of this process that has certain settings.

    A pool closes with its last lease.
    """

    def __init__(self, settings: PoolSettings) -> None:
        """Takes the share.

        Args:
            settings: Settings of the pool. If this process has none like that, one is made.
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


def _characters(arguments: Iterable[str | float]) -> int:
    return sum(len(argument) for argument in arguments if isinstance(argument, str))


def _read(outcome: Reply | ProcessFailure, *, seconds: float) -> Verdict:
    """Makes a verdict of a reply, or of the reason why there is none.

    Raises:
        ProcessDied: If the reply does not hold a verdict.
    """
    match outcome:
        case Reply(is_out_of_memory=True):
            return missing(MissingReason.CRASH, outcome.error)
        case Reply(error=error) if error:
            reason = f"{MissingReason.CRASH}: the scorer raised {error}"
            return Verdict(is_correct=None, reason=reason[:LONGEST_TEXT])
        case Reply():
            return _verdict_in(outcome.value)
        case DeadlineMissed():
            told = f"no verdict within {seconds:g} s"
            return missing(MissingReason.TIMEOUT, told)
        case LoadFailed():
            return missing(MissingReason.CRASH, f"the scorer cannot be loaded: {outcome}")
    return missing(MissingReason.CRASH, str(outcome))


def _read_group(size: int, outcome: Reply | ProcessFailure, *, seconds: float) -> list[Verdict]:
    """Makes verdicts of a reply, or of the reason why there is none for any response.

    Raises:
        ProcessDied: If the reply does not hold so many verdicts.
    """
    match outcome:
        case Reply(value=list(values), error=""):
            if len(values) != size:
                raise no_reply()
            return [_verdict_in(value) for value in values]
    return [_read(outcome, seconds=seconds)] * size


def _verdict_in(value: Any) -> Verdict:
    """Returns the verdict in a reply, which came from a process that has read a model's text.

    Raises:
        ProcessDied: If it does not hold one.
    """
    match value:
        case {
            "is_correct": bool() | None as is_correct,
            "reward": float() | None as reward,
            "prediction": str(prediction),
            "reason": str(reason),
            "components": dict(components),
            "metrics": dict(metrics),
        } if all(isinstance(one, float) for one in (*components.values(), *metrics.values())):
            return Verdict(
                is_correct=is_correct,
                reward=reward,
                prediction=prediction,
                reason=reason,
                components=components,
                metrics=metrics,
            )
    raise no_reply()
