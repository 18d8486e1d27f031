"""Asking Learners and EnvRunners at the same time, and telling which of them has failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from ray.exceptions import RayActorError, RayError
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_dapo.findings import one_line
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.weight_transfer.faults import LEARNERS, name_of, raise_fault
from rllib_dapo.weight_transfer.wire.transfer_group import PEER_LOST

if TYPE_CHECKING:
    from rllib_dapo.learner.learner import DAPOTorchLearner
    from rllib_dapo.rollout.env_runner import TextEnvRunner

T = TypeVar("T")

POLL_SECONDS = 0.05
# After a failure, how long the others have to say so themselves. They are freed at once.
GRACE_SECONDS = 15.0

_tags = (f"weights_{number}" for number in count())


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What both sides have answered.

    Attributes:
        learners: Answers of the Learners, by rank.
        runners: Answers of the EnvRunners, by index.
    """

    learners: list[Any]
    runners: dict[int, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """An exception as a value.

    Where EnvRunners are restarted after errors, RLlib would log one that was raised, and go on.

    Attributes:
        reason: Its message, in one line.
    """

    reason: str


@dataclass
class _Learners:
    """The Learners' side, asked on a thread of its own."""

    answers: list[Any] | None = None
    fault: str = ""
    done: threading.Event = field(default_factory=threading.Event)

    def start(
        self,
        group: LearnerGroup,
        question: Callable[[DAPOTorchLearner], Any] | None,
        on_fault: Callable[[str], None],
    ) -> None:
        """Begins to ask them, if there is a question."""
        if question is None:
            self.done.set()
            return
        # A thread that nobody joins: one that hangs must not keep the process from ending.
        threading.Thread(target=self._ask, args=(group, question, on_fault), daemon=True).start()

    def _ask(
        self,
        group: LearnerGroup,
        question: Callable[[DAPOTorchLearner], Any],
        on_fault: Callable[[str], None],
    ) -> None:
        try:
            answers = ask_learners(group, refusal_as_value(question))
            refusals = [answer.reason for answer in answers if isinstance(answer, Refusal)]
            # Of several Learners, some only say that another one is gone.
            self.fault = min(refusals, key=lambda reason: PEER_LOST in reason, default="")
            self.answers = answers
        except RayActorError:
            self.fault = "its process has ended"
        except Exception as error:
            self.fault = one_line(error)
        finally:
            if self.fault:
                on_fault(f"{LEARNERS}: {self.fault[:300]}")
            self.done.set()


def ask_both_sides(
    learner_group: LearnerGroup,
    env_runner_group: EnvRunnerGroup,
    *,
    of_learner: Callable[[DAPOTorchLearner], Any] | None,
    runners: list[int],
    timeout_seconds: float | None,
    what: str,
    of_runner: Callable[[TextEnvRunner], Any] = lambda runner: None,
    timeout_setting: float | None = None,
    deaths_end_it: bool = True,
    on_fault: Callable[[str], None] = lambda fault: None,
    doing: Callable[[], Mapping[str, str]] = dict,
) -> Answers:
    """Asks all Learners and some EnvRunners at the same time, and waits for both.

    Args:
        learner_group: The Learners.
        env_runner_group: The EnvRunners.
        of_learner: Function of a Learner, run in its process; None asks only EnvRunners.
        runners: Indices of the EnvRunners; 0 is the one of this process.
        timeout_seconds: Longest wait; None waits as long as it takes.
        what: What is done, for messages, such as `the transfer of version 3 of the weights`.
        of_runner: Function of an EnvRunner, run in its process.
        timeout_setting: The setting's value, where part of that time has been spent already.
        deaths_end_it: Whether the others cannot come to an end where an EnvRunner has died.
        on_fault: Called as soon as a side has failed, to free those that wait for it.
        doing: What each side is doing, by its name, where anybody knows; what begins with `waiting`
            is not that side's fault.

    Raises:
        SideError: If a side fails, or time is over.
    """
    learners = _Learners()
    learners.start(learner_group, of_learner, on_fault)

    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    answers: dict[int, Any] = {}
    tag = next(_tags)
    local = env_runner_group.local_env_runner
    if 0 in runners and local is not None:
        answers[0] = refusal_as_value(of_runner)(local)
    remote = [runner for runner in runners if runner != 0]
    if remote:
        env_runner_group.foreach_env_runner_async(
            refusal_as_value(of_runner), tag=tag, remote_worker_ids=remote
        )

    died: set[int] = set()
    has_failed = False
    while pending := _pending(learners, remote, answers, died):
        if deadline is not None and time.monotonic() > deadline:
            break
        answers |= _ready(env_runner_group, tag, learners, wait=pending != {LEARNERS})
        died |= set(remote) - set(answers) - set(env_runner_group.healthy_env_runner_ids())

        faults = _faults(learners, answers, died if deaths_end_it else set())
        if faults and not has_failed:
            # Those who wait for this side would wait until time is over.
            on_fault("; ".join(f"{side}: {reason}" for side, reason in faults.items()))
            has_failed = True
            grace = time.monotonic() + GRACE_SECONDS
            deadline = grace if deadline is None else min(deadline, grace)

    raise_fault(
        _faults(learners, answers, died if deaths_end_it else set()),
        _pending(learners, remote, answers, died),
        died=died,
        has_failed=has_failed,
        timeout_seconds=timeout_seconds if timeout_setting is None else timeout_setting,
        what=what,
        on_fault=on_fault,
        doing=doing,
    )
    return Answers(learners=learners.answers or [], runners=answers)


def refusal_as_value(question: Callable[[T], Any]) -> Callable[[T], Any]:
    """The same function, which returns its exception as a `Refusal`."""

    def ask(side: T) -> Any:
        try:
            return question(side)
        except Exception as error:
            kind = "" if isinstance(error, (RuntimeError, ValueError)) else type(error).__name__
            return Refusal(reason=f"{kind}: {one_line(error)}".removeprefix(": "))

    return ask


def _ready(group: EnvRunnerGroup, tag: str, learners: _Learners, *, wait: bool) -> dict[int, Any]:
    """Answers of EnvRunners that have come since; waits a moment where there are none."""
    if not wait:
        learners.done.wait(POLL_SECONDS)
        return {}
    try:
        return dict(group.fetch_ready_async_reqs(tags=tag, timeout_seconds=POLL_SECONDS))
    except RayError:  # where EnvRunners are not restarted; which one it was, its health says
        return {}


def _pending(
    learners: _Learners, remote: list[int], answers: Mapping[int, Any], died: set[int]
) -> set[str]:
    """Names of those who have not answered and may yet."""
    sides = {name_of(runner) for runner in remote if runner not in answers and runner not in died}
    return sides if learners.done.is_set() else sides | {LEARNERS}


def _faults(learners: _Learners, answers: Mapping[int, Any], died: set[int]) -> dict[str, str]:
    """Why each side that has failed has failed."""
    faults = {name_of(runner): "its process has ended" for runner in sorted(died)}
    faults |= {
        name_of(runner): answer.reason
        for runner, answer in answers.items()
        if isinstance(answer, Refusal)
    }
    if learners.fault:
        faults[LEARNERS] = learners.fault
    return faults
