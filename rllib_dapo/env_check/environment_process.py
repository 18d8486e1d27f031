"""Environments under check, in a child process: each call has a deadline and can be killed."""

from __future__ import annotations

import base64
import re
import resource
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium

from rllib_dapo.env_check.environment_finding import Fault, Finding, Level, shortened
from rllib_dapo.envs.processes.killable_process import KillableProcess, Program
from rllib_dapo.envs.processes.replies import ProcessDied, read_greeting, read_reply
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.ray_internals import tune_env_creator

CALL_SECONDS = 30.0
MAKE_SECONDS = 120.0  # for importing its module, loading its data, and making it
# Of the process, beyond what it holds once the environment is made.
MOST_MEMORY_MIB = 4096

_START_SECONDS = 120.0  # a busy machine may take long to import Ray
_LOOK_SECONDS = 0.25  # between two looks at the memory

_RAISED_FIX = {
    "take": "it must work in any process that can import its module: EnvRunners are processes",
    "make": "correct __init__, or give it other settings (--set env_config.name=value)",
    "reset": "every seed must give a problem",
    "step": "it must not raise, whatever a model wrote",
    "close": "it must not raise: the run is over, and its results are to be saved",
    "gymnasium": "see Gymnasium's documentation of Env",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Called:
    """What a call gave, as far as checks need it.

    Attributes:
        digest: Fingerprint of the observation; equal texts have equal ones.
        text: The observation, at least its beginning.
        is_text: Whether the observation is a text, rather than a list of messages.
        is_over: Whether the episode is over.
        reward: The reward as Python writes it; `nan` without a verdict.
        reason: Why there is no verdict.
        findings: What is wrong with it all the same.
        seconds: How long it took.
    """

    digest: str
    text: str
    is_text: bool
    is_over: bool
    reward: str
    reason: str
    findings: tuple[Finding, ...]
    seconds: float


def pickled(env: Any, settings: Mapping[str, Any]) -> str:
    """What another process needs to make the environment: base64 of a pickle.

    What is registered with Tune or Gymnasium in this process is not known in another one, so it
    travels along.

    Args:
        env: Environment as `check_environment` takes it.
        settings: Settings of the environment.

    Raises:
        Fault: If it cannot be sent.
    """
    creator = tune_env_creator(env) if isinstance(env, str) else None
    spec = None
    if creator is not None:
        env = _FromTune(creator)
    elif isinstance(env, str):
        spec = gymnasium.registry.get(env)

    # What pickling raises is as open as what a user's object holds.
    try:
        return base64.b64encode(cloudpickle.dumps((env, spec, dict(settings)))).decode()
    except Exception as error:
        told = one_line(error)[:300]
        raise Fault(
            Finding(
                fault=f"it cannot be sent to another process: {type(error).__name__}: {told}",
                fix="give a class and settings that can be pickled: EnvRunners are processes",
                cause="take",
            )
        ) from error


class _FromTune:
    """What `tune.register_env` was given, as a class that takes the settings."""

    def __init__(self, creator: Any) -> None:
        self._creator = creator

    def __call__(self, config: Mapping[str, Any]) -> Any:
        return self._creator(config)


class EnvironmentProcess:
    """A child process that makes environments and calls them.

    Where a call killed it, the next one starts another and makes the environment again.

    Args:
        hash_seed: Of the process: texts have other hashes where it is another one.
    """

    def __init__(self, *, hash_seed: int) -> None:
        self._program = Program(
            service=f"{__package__}.probe_service:ProbeService",
            environment={"PYTHONHASHSEED": str(hash_seed)},
            start_seconds=_START_SECONDS,
            path=tuple(dict.fromkeys((*sys.path, str(Path.cwd())))),
            is_silent=True,
        )
        self._process: KillableProcess | None = None
        self._pickled = ""
        self._made: set[int] = set()
        self._has_taken = self._is_greeted = False
        self._most_memory = 0

    def __enter__(self) -> EnvironmentProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Starts the process where there is none, without waiting until it is ready."""
        if self._process is None:
            self._process = KillableProcess(self._program)
            self._is_greeted = self._has_taken = False
            self._made.clear()

    def take(self, sent: str) -> None:
        """Takes another environment to check, which is made with the next call.

        Args:
            sent: What `pickled` returned.
        """
        self._pickled = sent
        self._has_taken = False
        self._made.clear()

    def make(self, number: int = 0) -> dict[str, Any]:
        """Makes an environment, known by a number from then on, and says what its spaces are.

        Raises:
            SettingsError: If there is no such environment, or if it refuses its settings.
            Fault: If that fails in another way.
        """
        if not self._has_taken:
            self._call("take", "importing its module", MAKE_SECONDS, pickled=self._pickled)
            self._has_taken = True

        reply = self._call("make", "making it", MAKE_SECONDS, number=number)
        self._made.add(number)
        assert self._process is not None
        self._most_memory = _memory(self._process.pid) + (MOST_MEMORY_MIB << 20)
        return reply

    def reset(self, seed: int | None, number: int = 0) -> Called:
        """Resets an environment.

        Raises:
            Fault: If the call fails, or gives no prompt.
        """
        name = f"reset(seed={seed})" if seed is not None else "reset()"
        return _called(self._call("reset", name, CALL_SECONDS, number=number, seed=seed))

    def step(self, text: str, number: int = 0) -> Called:
        """Steps an environment with a response.

        Raises:
            Fault: If the call fails, or gives what no episode can go on with.
        """
        name = f"step({shortened(text)})"
        return _called(self._call("step", name, CALL_SECONDS, number=number, text=text))

    def gymnasium(self, number: int) -> str:
        """Runs Gymnasium's checker over an environment, which is used up then.

        Returns:
            The first thing that it does not like; empty if there is none.
        """
        reply = self._call("gymnasium", "Gymnasium's checker", 4 * CALL_SECONDS, number=number)
        self._made.discard(number)
        return str(reply["told"])

    def close(self, number: int = 0) -> None:
        """Closes an environment that was made.

        Raises:
            Fault: If that fails.
        """
        if number in self._made:
            self._made.discard(number)
            self._call("close", "close()", CALL_SECONDS, number=number)

    def kill(self) -> None:
        """Ends the process, and whatever an environment has started in it."""
        process, self._process = self._process, None
        self._has_taken = False
        self._made.clear()
        if process is not None:
            process.kill()

    def _call(self, method: str, name: str, seconds: float, **arguments: Any) -> dict[str, Any]:
        """Has the service do something, and takes its reply apart."""
        is_of_made = method not in ("take", "make", "close")
        if is_of_made and arguments["number"] not in self._made:
            self.make(arguments["number"])

        try:
            reply = self._ask({"do": method, **arguments}, seconds)
        except _TookTooMuch as error:
            fault = f"{name} {error}"
            fix = "bound what it does"
        except ProcessDied as error:
            fault = f"{name} ended its process: {_with_signal_name(str(error))}"
            fix = "it must never end the process that it runs in: an EnvRunner would be lost"
        else:
            return _checked(reply, method, name)

        # After any of these the process is of no use.
        self.kill()
        raise Fault(Finding(fault=fault, fix=fix, cause=f"{method} lost"))

    def _ask(self, content: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Sends a request and waits for the reply, with an eye on the process's memory."""
        self.start()
        assert self._process is not None
        if not self._is_greeted:
            read_greeting(self._process.receive(_START_SECONDS))
            self._is_greeted = True
        self._process.send({"calls": [content]})

        is_bounded = content["do"] not in ("take", "make")
        until = time.monotonic() + seconds
        while (message := self._process.receive(_LOOK_SECONDS)) is None:
            if time.monotonic() > until:
                raise _TookTooMuch(f"did not return within {seconds:g} s")
            if is_bounded and _memory(self._process.pid) > self._most_memory:
                raise _TookTooMuch(f"took more than {MOST_MEMORY_MIB / 1024:g} GiB of memory")

        reply = read_reply(message)
        if reply.error:  # the service itself failed, so there is nothing to know of the call
            raise ProcessDied(reply.error)
        return dict(reply.value)


class _TookTooMuch(Exception):
    """A call took more time or memory than it may."""


def _checked(reply: dict[str, Any], method: str, name: str) -> dict[str, Any]:
    """Returns a reply, or raises what it says."""
    if "refused" in reply:
        raise SettingsError(reply["refused"])
    if "fault" in reply:
        raise Fault(_finding(reply["fault"]))
    if "raised" not in reply:
        return reply

    kind, message = reply["raised"]["kind"], reply["raised"]["message"]
    told = f"{kind}: {message}" if message else kind
    fault = f"{name} raised {told}"
    fix = _RAISED_FIX[method]
    if method == "reset" and kind == "TypeError" and "'seed'" in message:
        fix = "take the seed, def reset(self, *, seed=None, options=None), and use it"
    raise Fault(Finding(fault=fault, fix=fix, cause=f"{method} raised {kind}"))


def _with_signal_name(told: str) -> str:
    found = re.search(r"signal (\d+)", told)
    return f"{told} ({signal.Signals(int(found[1])).name})" if found else told


def _memory(pid: int) -> int:
    """Bytes of memory that a process holds; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _called(reply: Mapping[str, Any]) -> Called:
    return Called(
        digest=reply["digest"],
        text=reply["text"],
        is_text=reply["is_text"],
        is_over=reply["is_over"],
        reward=reply["reward"],
        reason=reply["reason"],
        findings=tuple(_finding(found) for found in reply["findings"]),
        seconds=reply["seconds"],
    )


def _finding(found: Mapping[str, str]) -> Finding:
    return Finding(
        fault=found["fault"],
        fix=found["fix"],
        level=Level(found["level"]),
        cause=found["cause"],
    )
