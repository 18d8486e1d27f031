"""What one thread of the pool does with its process: calls in, verdicts out, and a new process when one is spent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from rllib_dapo.envs.verify.calls import Call, SentRule
from rllib_dapo.envs.verify.process import ProcessDied, VerifierProcess
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, missing

_LOAD_SECONDS = 60.0  # importing what a user's function needs may take its time
_LOAD_PATIENCE_SECONDS = 5.0
_PATIENCE_SECONDS = 0.5


class Worker:
    """Scores calls one after the other in a process, which it starts when it needs one."""

    def __init__(
        self,
        *,
        seconds: float,
        memory_mib: int,
        wake: int,
        overdue: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Starts nothing yet.

        Args:
            seconds: The deadline of a call.
            memory_mib: See `VerifierProcess`.
            wake: See `VerifierProcess`.
            overdue: Makes the context in which a call is waited for that takes unusually long.
        """
        self._seconds = seconds
        self._memory_mib = memory_mib
        self._wake = wake
        self._overdue = overdue
        self._unloadable: dict[str, str] = {}
        self.process: VerifierProcess | None = None

    def score(self, batch: deque[Call]) -> None:
        """Gives verdicts and takes their calls out of the batch; calls that are left want asking again.

        Args:
            batch: Calls in their order, at least one. If they are several, all their rules are
                quick ones.

        Raises:
            Closed: If the pool is closed meanwhile.
        """
        try:
            self._score(batch)
        except ProcessDied as error:
            # It was at the first call that has no verdict yet.
            self.end()
            batch.popleft().verdict.set_result(missing(MissingReason.CRASH, str(error)))

    def end(self) -> None:
        """Kills the process, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    def _score(self, batch: deque[Call]) -> None:
        if self.process is None:
            self.process = VerifierProcess(memory_mib=self._memory_mib, wake=self._wake)
        process = self.process
        if why := self._load(process, batch[0].rule):
            batch.popleft().verdict.set_result(
                missing(MissingReason.CRASH, f"the scorer cannot be loaded: {why}")
            )
            return
        process.send({"calls": [[call.rule.name, call.arguments] for call in batch]})
        while batch:
            reply = self._wait(process, self._seconds, _PATIENCE_SECONDS)
            if reply is None:
                self.end()
                late = missing(MissingReason.TIMEOUT, f"no verdict within {self._seconds:g} s")
                batch.popleft().verdict.set_result(late)
                return
            verdict, is_worn = _read(reply)
            batch.popleft().verdict.set_result(verdict)
            if is_worn:
                self.end()
                return

    def _load(self, process: VerifierProcess, rule: SentRule) -> str:
        """Has the process load a rule, outside of any call's deadline; returns why it cannot be loaded."""
        if rule.is_quick or rule.name in process.loaded:
            return ""
        if rule.name not in self._unloadable:
            process.send({"load": rule.name, "function": rule.function})
            reply = self._wait(process, _LOAD_SECONDS, _LOAD_PATIENCE_SECONDS)
            if reply is None:
                raise ProcessDied(f"loading the scorer took more than {_LOAD_SECONDS:g} s")
            if not reply["error"]:
                process.loaded.add(rule.name)
                return ""
            self._unloadable[rule.name] = reply["error"]
        return self._unloadable[rule.name]

    def _wait(self, process: VerifierProcess, seconds: float, patience: float) -> Any:
        reply = process.receive(min(patience, seconds))
        if reply is None and seconds > patience:
            with self._overdue():
                return process.receive(seconds - patience)
        return reply


def _read(reply: Any) -> tuple[Verdict, bool]:
    """Takes a reply apart; what is in it came from a process that has read a model's text.

    Raises:
        ProcessDied: If it is no reply of ours.
    """
    match reply:
        case {
            "verdict": {
                "is_correct": bool() | None as is_correct,
                "reward": float() | None as reward,
                "prediction": str(prediction),
                "reason": str(reason),
                "components": dict(components),
            },
            "is_worn": bool(is_worn),
        } if all(isinstance(value, float) for value in components.values()):
            verdict = Verdict(
                is_correct=is_correct,
                reward=reward,
                prediction=prediction,
                reason=reason,
                components=components,
            )
            return verdict, is_worn
    raise ProcessDied("the process said what is no reply")
