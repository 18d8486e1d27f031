"""Calls to an environment that is not trusted yet: bounded in time, and what comes back is looked at."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from ray import cloudpickle

from rllib_dapo.envs.verify import MissingReason
from rllib_dapo.rollout.make_environment import make_environment

PATIENCE_SECONDS = 60.0  # for one call
_SHOWN = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A rule that an environment breaks.

    Attributes:
        fault: What is wrong.
        cure: What to do.
    """

    fault: str
    cure: str

    def __str__(self) -> str:
        return f"{self.fault}\n    -> {self.cure}"


class Fault(Exception):
    """A finding on its way up."""

    def __init__(self, fault: str, cure: str) -> None:
        super().__init__(fault)
        self.finding = Finding(fault=fault, cure=cure)


def timed(
    name: str, call: Callable[[], Any], *, cure: str = "it must not raise, whatever a model wrote"
) -> Any:
    """Calls in a thread of its own, which is left behind if it never returns.

    Args:
        name: Of the call, for the finding.
        call: What is called.
        cure: Of an exception.

    Raises:
        Fault: If the call raises or does not return in time.
    """
    outcome: list[tuple[Any, Exception | None]] = []

    def run() -> None:
        # What a user's environment may raise is open; all of it is to be told.
        try:
            outcome.append((call(), None))
        except Exception as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    if not outcome:
        raise Fault(
            f"{name} did not return within {PATIENCE_SECONDS:g} s",
            "bound what it does; a scorer that may hang belongs into a process (verify_in='process')",
        )
    result, error = outcome[0]
    if error is not None:
        raise Fault(
            f"{name} raised {type(error).__name__}: {' '.join(str(error).split())[:300]}", cure
        )
    return result


def reset(env: gym.Env[Any, Any], seed: int) -> str:
    """Resets with a seed and returns the prompt.

    Raises:
        Fault: If that fails, or is no prompt and info.
    """
    result = timed(
        f"reset(seed={seed})", lambda: env.reset(seed=seed), cure="every seed must give a problem"
    )
    if not isinstance(result, tuple) or len(result) != 2:
        raise Fault(
            f"reset returned {show(result)}", "return a tuple: the prompt, and a dict (info)"
        )
    prompt, info = result
    if not isinstance(prompt, str):
        raise Fault(
            f"reset observes {type(prompt).__name__}, not text: {show(prompt)}",
            "return a str: what the language model is to read",
        )
    if not isinstance(info, dict):
        raise Fault(
            f"reset returned the info {show(info)}",
            "return a dict, empty if there is nothing to say",
        )
    return prompt


def step(env: gym.Env[Any, Any], text: str) -> bool:
    """Steps and returns whether the episode is over.

    Raises:
        Fault: If that fails, or if observation, reward or info are not what they should be.
    """
    name = f"step({show(text)})"
    result = timed(name, lambda: env.step(text))
    if not isinstance(result, tuple) or len(result) != 5:
        raise Fault(
            f"{name} returned {show(result)}",
            "return observation, reward, terminated, truncated, info",
        )
    observation, reward, terminated, truncated, info = result
    if not isinstance(observation, str):
        raise Fault(
            f"step observes {type(observation).__name__}, not text: {show(observation)}",
            "return a str: what the model reads next, or '' where the episode is over",
        )
    if not isinstance(info, dict):
        raise Fault(
            f"{name} returned the info {show(info)}",
            "return a dict, empty if there is nothing to say",
        )
    _check_reward(name, reward, info)
    is_over = bool(terminated or truncated)
    if is_over:
        _check_correctness(name, info)
    return is_over


def prompts_elsewhere(env: Any, settings: Mapping[str, Any], seeds: Sequence[int]) -> list[str]:
    """Returns the prompts of some seeds in another process, in which texts hash otherwise.

    Args:
        env: As `check_environment` takes it.
        settings: Of the environment.
        seeds: At least one.

    Raises:
        Fault: If the environment does not work there.
    """
    try:
        sent = cloudpickle.dumps((env, dict(settings), list(seeds)))
    except Exception as error:
        raise Fault(
            f"it cannot be sent to another process: {type(error).__name__}: {error}",
            "give a class and settings that can be pickled",
        ) from error
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_send_prompts, args=(sending, sent), daemon=True)
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "1" if before != "1" else "2"
    try:
        process.start()
    finally:
        del os.environ["PYTHONHASHSEED"]
        if before is not None:
            os.environ["PYTHONHASHSEED"] = before
    sending.close()
    try:
        answer = receiving.recv() if receiving.poll(PATIENCE_SECONDS) else "no answer"
    except EOFError:
        answer = "it ended the process"
    finally:
        process.kill()
        process.join()
    if isinstance(answer, str):
        raise Fault(
            f"in another process: {answer}",
            "it must work in any process that can import its module",
        )
    return list(answer)


def show(value: Any) -> str:
    """A value as it is written in Python, cut short."""
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."


def _check_reward(name: str, reward: Any, info: Mapping[str, Any]) -> None:
    if isinstance(reward, bool) or not hasattr(reward, "__float__") or math.isinf(float(reward)):
        raise Fault(
            f"{name} gave the reward {show(reward)}, which is no finite number",
            "return a float; where there is no verdict NaN, with the cause in info['missing_reason']",
        )
    if not math.isnan(float(reward)):
        return
    reason = str(info.get("missing_reason") or "")
    if not reason:
        raise Fault(
            f"{name} gave the reward NaN, which means that there is no verdict, but not why",
            "say why in info['missing_reason'], or return a finite number",
        )
    if reason.startswith(MissingReason.CRASH):
        raise Fault(f"{name}: {reason}", "the scorer must not raise, whatever a model wrote")


def _check_correctness(name: str, info: Mapping[str, Any]) -> None:
    correct: Any = info.get("is_correct")
    if hasattr(correct, "item"):  # NumPy's bool is none of Python's
        correct = correct.item()
    if not isinstance(correct, bool | None):
        raise Fault(
            f"{name} gave info['is_correct'] = {show(correct)}",
            "give True or False; None where there is no verdict, and no such key where there is no right and wrong",
        )


def _send_prompts(connection: Any, sent: bytes) -> None:
    """Runs in the other process."""
    try:
        env, settings, seeds = pickle.loads(sent)
        made = make_environment(env, settings)
        connection.send([made.reset(seed=seed)[0] for seed in seeds])
        made.close()
    except Exception as error:
        connection.send(f"{type(error).__name__}: {' '.join(str(error).split())}")
