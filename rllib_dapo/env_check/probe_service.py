"""Runs in a child process: makes the environments under check and does with them what is asked.

Nothing of an environment's own gets out of here but texts and numbers.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import inspect
import pickle
import re
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import gymnasium as gym
from gymnasium.utils.env_checker import check_env as gymnasium_check

from rllib_dapo.env_check.environment_finding import Fault, Finding, Level, shortened
from rllib_dapo.env_check.returned_values import Outcome, judge_reset, judge_step
from rllib_dapo.envs.processes.service import Service
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.rollout.make_environment import make_environment

_LONGEST_MESSAGE = 300
_LONGEST_TEXT = 10_000  # of an observation, for showing where two differ
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
# What Gymnasium's checker says of what is right here: a wrapper, a verdict that is missing, any
# number as a reward, an episode of one turn that is cut off, 0 and 1 as flags.
_FINE = (
    "different from the unwrapped version",
    "reward is a NaN value",
    "reward returned by `step()` must be",
    "truncates after 1 step",
    "signal to be a boolean",
)
_NUMERIC = (
    gym.spaces.Box,
    gym.spaces.Dict,
    gym.spaces.Discrete,
    gym.spaces.MultiBinary,
    gym.spaces.MultiDiscrete,
    gym.spaces.Tuple,
)


class ProbeService(Service):
    """Answers `{"do": method, ...}` with what `_reply` says; see the methods below.

    Environments are known by numbers, so that two of them can be compared.
    """

    def __init__(self) -> None:
        self._env: Any = None
        self._settings: dict[str, Any] = {}
        self._made: dict[int, gym.Env[Any, Any]] = {}

    def call(self, content: Any) -> Any:
        """Does what is asked. What the environment raises becomes part of the reply."""
        methods: Mapping[str, Callable[..., dict[str, Any]]] = {
            "take": self._take,
            "make": self._make,
            "reset": self._reset,
            "step": self._step,
            "gymnasium": self._gymnasium,
            "close": self._close,
        }
        method = methods[content.pop("do")]

        began = time.perf_counter()
        try:
            reply = method(**content)
        except Fault as fault:
            reply = {"fault": asdict(fault.finding)}
        # An environment may raise anything, also what is meant to end the process.
        except BaseException as error:
            reply = {"raised": _told(error)}
        return {**reply, "seconds": time.perf_counter() - began}

    def _take(self, pickled: str) -> dict[str, Any]:
        """Takes what `environment_process.pickled` made of the environment and its settings."""
        self._made.clear()

        # What this process's own parent has made.
        env, spec, self._settings = pickle.loads(base64.b64decode(pickled))
        if spec is not None:
            gym.registry[spec.id] = spec
        self._env = env
        if isinstance(env, str) and env not in gym.registry:
            from rllib_dapo.run.environments import resolve_environment

            try:
                self._env = resolve_environment(env)
            except SettingsError as error:
                return {"refused": str(error)}
            except BaseException as error:  # a module may raise anything, SystemExit for one
                cause = f"{type(error).__name__}: {one_line(error)}"
                return {"refused": f"environment.env={env!r}: it cannot be imported: {cause}"}
        return {}

    def _make(self, number: int) -> dict[str, Any]:
        """Makes an environment, and says what it is."""
        try:
            made = make_environment(self._env, self._settings)
        except Exception as error:
            if _is_refusal(error, self._env, self._settings):
                return {"refused": _refusal(error, self._env)}
            raise
        _check_kind(made)
        self._made[number] = made
        return _spaces(made)

    def _reset(self, number: int, seed: int | None) -> dict[str, Any]:
        """Resets, and tells the prompt."""
        env = self._made[number]
        name = f"reset(seed={seed})" if seed is not None else "reset()"
        result = env.reset(seed=seed) if seed is not None else env.reset()

        outcome = judge_reset(name, result)
        if outcome.is_text and not outcome.findings:
            outcome.findings += _outside(env.observation_space, "observation", outcome.text)
        return _reply(outcome)

    def _step(self, number: int, text: str) -> dict[str, Any]:
        """Steps with a response, and tells what the environment made of it."""
        env = self._made[number]
        outcome = judge_step(f"step({shortened(text)})", env.step(text))
        outcome.findings += _outside(env.action_space, "action", text)
        return _reply(outcome)

    def _gymnasium(self, number: int) -> dict[str, Any]:
        """Runs Gymnasium's own checker, and tells the first thing that it does not like."""
        told = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                gymnasium_check(self._made.pop(number), skip_render_check=True)
            except Exception as error:
                told.append(f"{type(error).__name__}: {one_line(error)}")

        for warning in caught:
            is_of_user = issubclass(warning.category, UserWarning)
            if is_of_user and "gymnasium" in warning.filename:
                message = " ".join(_COLOR.sub("", str(warning.message)).split())
                told.append(message.removeprefix("WARN: "))
        unfit = (message for message in told if not any(fine in message for fine in _FINE))
        return {"told": next(unfit, "")[:_LONGEST_MESSAGE]}

    def _close(self, number: int) -> dict[str, Any]:
        made: Any = self._made.pop(number)
        result = made.close()
        if inspect.iscoroutine(result):
            result.close()
            fault = "close is a coroutine function (async def), which nobody waits for"
            fix = "make it an ordinary function"
            raise Fault(Finding(fault=fault, fix=fix, level=Level.LOOK, cause="close result"))
        return {}


def _reply(outcome: Outcome) -> dict[str, Any]:
    text = outcome.text.encode("utf-8", "surrogatepass")
    return {
        "digest": hashlib.blake2b(text, digest_size=16).hexdigest(),
        "text": outcome.text[:_LONGEST_TEXT],
        "is_text": outcome.is_text,
        "is_over": outcome.is_over,
        "reward": repr(outcome.reward),
        "reason": outcome.reason,
        "findings": [asdict(finding) for finding in outcome.findings],
    }


def _told(error: BaseException) -> dict[str, str]:
    message = one_line(error) if str(error).strip() else ""
    return {"kind": type(error).__name__, "message": message[:_LONGEST_MESSAGE]}


def _is_refusal(error: Exception, env: Any, settings: Mapping[str, Any]) -> bool:
    """Whether an environment that cannot be made refuses its settings, or is not there at all."""
    if isinstance(error, gym.error.Error | ImportError):
        return True
    # A constructor raises these of what it was given; where that is nothing, it is its own fault.
    is_ours = isinstance(env, str) and env.startswith("rllib_dapo/")
    is_of_settings = isinstance(error, ValueError | FileNotFoundError) or (
        isinstance(error, TypeError) and "argument" in str(error)
    )
    return is_of_settings and bool(settings or is_ours)


def _refusal(error: Exception, env: Any) -> str:
    name = env if isinstance(env, str) else getattr(env, "__qualname__", repr(env))
    kind = "" if isinstance(error, ValueError | FileNotFoundError) else f"{type(error).__name__}: "
    about = "env" if isinstance(error, gym.error.Error | ImportError) else "env_config"
    told = _COLOR.sub("", one_line(error))[:_LONGEST_MESSAGE]
    return f"environment.{about} of {name}: {kind}{told}"


def _check_kind(made: Any) -> None:
    if isinstance(made, gym.Env):
        return
    if inspect.iscoroutine(made):
        made.close()
    fix = (
        "derive it from gymnasium.Env; an object with reset(seed) and step(text) goes into "
        "rllib_dapo/Object-v0"
    )
    if isinstance(made, gym.vector.VectorEnv):
        fix = "give one environment; training makes as many of it as it needs"
    fault = f"making it gave {type(made).__name__}, which is not a gymnasium.Env"
    raise Fault(Finding(fault=fault, fix=fix, cause="make"))


def _spaces(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """Says what the spaces are, and which of them cannot hold a text.

    Raises:
        Fault: If one is not there.
    """
    shown, numeric = {}, []
    for kind in ("observation", "action"):
        space = getattr(env, f"{kind}_space", None)
        if not isinstance(space, gym.Space):
            fault = f"its {kind}_space is {shortened(space)}, not a Gymnasium space"
            fix = f"set self.{kind}_space = rllib_dapo.envs.TextSpace(1_000_000)"
            raise Fault(Finding(fault=fault, fix=fix, cause=f"{kind} space"))
        shown[kind] = shortened(space)
        if isinstance(space, _NUMERIC):
            numeric.append(kind)
    return {"spaces": shown, "numeric": numeric}


def _outside(space: gym.Space[Any], kind: str, text: str) -> list[Finding]:
    """Whether a space does not hold a text that was observed or written."""
    # A space of a user's own may raise on what it does not hold.
    with contextlib.suppress(Exception):
        if space.contains(text):
            return []
    what = "prompt" if kind == "observation" else "response"
    return [
        Finding(
            fault=f"the {kind} space {shortened(space)} does not contain the {what} "
            f"{shortened(text)}",
            fix="use rllib_dapo.envs.TextSpace, which contains any text up to a length",
            level=Level.LOOK,
            cause=f"{kind} space",
        )
    ]
