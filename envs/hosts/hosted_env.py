"""An environment whose every call runs in a child process that can be killed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import gymnasium

from rllib_dapo.envs.hosts.environment_service import Recipe
from rllib_dapo.envs.hosts.host_settings import HostSettings
from rllib_dapo.envs.hosts.outcomes import BadOutcome
from rllib_dapo.envs.processes.killable_process import Program
from rllib_dapo.envs.processes.replies import DeadlineMissed, ProcessFailure, ServiceFailed
from rllib_dapo.envs.processes.restarting_process import RestartingProcess
from rllib_dapo.envs.spaces import TextSpace
from rllib_dapo.envs.tools import ModelTurn

_SERVICE = "rllib_dapo.envs.hosts.environment_service:EnvironmentService"
OUT_OF_MEMORY = "out of memory"  # what a process says of it, see `serve`
_MAKE_SECONDS = 120.0  # importing what a user's environment needs may take its time
_CLOSE_SECONDS = 5.0
_MAX_CHARACTERS = 1_000_000


class HostedEnv(gymnasium.Env[Any, str]):
    """An environment in a process of its own, with a deadline for each call.

    A call that misses its deadline, or in which the process dies or takes too much memory, raises
    a `ProcessFailure`. The process is killed then, and the next `reset` starts another one, which
    makes the environment anew. So a lost process costs the episode that was under way in it, and
    nothing else. One thread at a time may use such an environment.

    `reset` and `step` return what Gymnasium's do, with the parts of `info` that this package
    reads: what the environment returned has been read by `outcomes` in the process::

        env = HostedEnv(Recipe(env=GuessEnv, config={"max_turns": 5}), HostSettings(seconds=2.0))
        try:
            prompt, info = env.reset(seed=3)
        except DeadlineMissed: ...      # it hangs; the message says for how long it was waited
        except ProcessDied: ...         # it died; the message has the signal or the status
        except ServiceFailed: ...       # it raised; the message has the kind and the text
        except BadOutcome: ...          # it returned what it must not; the message says what
        env.close()

    Attributes:
        while_overdue: Makes the context in which a call is waited for after half its time.
        pid: The number of the process; None if there is none.

    Args:
        recipe: How the environment is made.
        settings: Deadline and memory.

    Raises:
        ValueError: If the environment cannot be sent to a process, or refuses to be made there.
        ProcessFailure: If making it hangs, or ends the process.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own annotation)

    def __init__(self, recipe: Recipe, settings: HostSettings | None = None) -> None:
        self.settings = settings or HostSettings()
        self.observation_space = TextSpace(_MAX_CHARACTERS)
        self.action_space = TextSpace(_MAX_CHARACTERS)
        self.while_overdue: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
        self._recipe = recipe.sent()
        self._was_reset = False
        self._process = RestartingProcess(
            Program(service=_SERVICE, memory_allowance=self.settings.memory_mib << 20)
        )
        self._make()

    @property
    def pid(self) -> int | None:
        """See the class."""
        return self._process.pid

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode, in a new process if the last one was lost.

        Returns:
            The prompt, a text or a list of messages; and `{"answer", "tools", "max_turns"}`, those
            of them that the environment tells.

        Raises:
            BadOutcome: If the environment returned what it must not return.
            ProcessFailure: If it raised, did not return in time, or lost its process.
        """
        super().reset(seed=seed)
        self._was_reset = False
        self._make()
        value = self._call("reset", seed=seed, options=options)
        self._was_reset = True
        told = {name: value[name] for name in ("answer", "tools", "max_turns")}
        return value["prompt"], {name: one for name, one in told.items() if one not in (None, [])}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Steps the environment; as `reset`.

        Raises:
            gymnasium.error.ResetNeeded: If no episode is under way in the process.
        """
        if not self._was_reset or not self._process.is_alive:
            raise gymnasium.error.ResetNeeded("no episode is under way: call reset()")
        text = action.as_json() if isinstance(action, ModelTurn) else action
        value = self._call("step", text=text)
        info = {
            "is_correct": value["is_correct"],
            "prediction": value["prediction"],
            "reward_components": value["components"],
            "reward_metrics": value["metrics"],
            "reward_if_cut_off": value["reward_if_cut_off"],
            "missing_reason": value["reason"],
        }
        return value["observation"], value["reward"], value["is_done"], False, info

    def close(self) -> None:
        """Closes the environment and ends its process, whatever the environment does meanwhile."""
        if self._process.is_alive:
            with contextlib.suppress(ProcessFailure, BadOutcome):
                self._call("close", seconds=min(_CLOSE_SECONDS, self.settings.seconds))
        self._process.kill()

    def _make(self) -> None:
        """Starts a process and makes the environment in it, if there is none."""
        if self._process.is_running:
            return
        try:
            refusal = self._process.load(self._recipe, deadline=_MAKE_SECONDS)
        except DeadlineMissed:
            raise DeadlineMissed(f"it was not made within {_MAKE_SECONDS:g} s") from None
        match refusal:
            case {"kind": str(kind), "message": str(message)}:
                self._process.kill()
                raise ValueError(message if kind == "ValueError" else f"{kind}: {message}")

    def _call(self, method: str, *, seconds: float | None = None, **arguments: Any) -> Any:
        try:
            value = self._process.call(
                [method, arguments],
                deadline=seconds or self.settings.seconds,
                replace_worn=False,
                while_overdue=self.while_overdue,
            )
        except ServiceFailed as failure:
            if str(failure) != OUT_OF_MEMORY:
                raise
            bound = f"verify_memory_mib={self.settings.memory_mib}"
            raise ServiceFailed(f"{OUT_OF_MEMORY} ({bound})") from None

        match value:
            case {"bad": str(fault)}:
                raise BadOutcome(fault)
        return value
