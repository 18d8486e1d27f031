"""Calls to an environment that is not trusted yet, with a time limit and checks of the results."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from ray import cloudpickle

from rllib_dapo.envs.verify import MissingReason
from rllib_dapo.rollout.make_environment import make_environment

CALL_TIMEOUT_SECONDS = 60.0
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A rule that an environment breaks.

    Attributes:
        fault: What is wrong.
        fix: What to do about it.
    """

    fault: str
    fix: str

    def __str__(self) -> str:
        return f"{self.fault}\n    -> {self.fix}"


class Fault(Exception):
    """Carries a finding to the check that made the call."""

    def __init__(self, fault: str, fix: str) -> None:
        super().__init__(fault)
        self.finding = Finding(fault=fault, fix=fix)


def guarded(
    name: str, call: Callable[[], Any], *, fix: str = "it must not raise, whatever a model wrote"
) -> Any:
    """Calls a function in a thread of its own, which is abandoned if the call never returns.

    Args:
        name: What is called, for the finding.
        call: The function.
        fix: What to do about an exception.

    Returns:
        What the function returned.

    Raises:
        Fault: If the call raises, or does not return within `CALL_TIMEOUT_SECONDS`.
    """
    outcome: list[tuple[Any, Exception | None]] = []

    def run() -> None:
        # A user's environment may raise anything, and all of it is reported.
        try:
            outcome.append((call(), None))
        except Exception as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(CALL_TIMEOUT_SECONDS)

    if not outcome:
        raise Fault(
            f"{name} did not return within {CALL_TIMEOUT_SECONDS:g} s",
            "bound what it does; a scorer that may hang belongs in a process (verify_in='process')",
        )
    result, error = outcome[0]
    if error is not None:
        message = " ".join(str(error).split())[:300]
        raise Fault(f"{name} raised {type(error).__name__}: {message}", fix)
    return result


def reset(env: gym.Env[Any, Any], seed: int) -> str:
    """Resets with a seed and returns the prompt.

    Raises:
        Fault: If the call fails, or does not return a prompt and a dict.
    """
    result = guarded(
        f"reset(seed={seed})", lambda: env.reset(seed=seed), fix="every seed must give a problem"
    )

    if not isinstance(result, tuple) or len(result) != 2:
        raise Fault(
            f"reset returned {shortened(result)}", "return a tuple: the prompt, and a dict (info)"
        )
    prompt, info = result
    if not isinstance(prompt, str):
        raise Fault(
            f"reset observes {type(prompt).__name__}, not text: {shortened(prompt)}",
            "return a str: what the language model is to read",
        )
    if not isinstance(info, dict):
        raise Fault(
            f"reset returned the info {shortened(info)}",
            "return a dict, which is empty if there is nothing to say",
        )
    return prompt


def step(env: gym.Env[Any, Any], text: str) -> bool:
    """Steps with a response and returns whether the episode is over.

    Raises:
        Fault: If the call fails, or if an observation, reward or info breaks the rules.
    """
    name = f"step({shortened(text)})"
    result = guarded(name, lambda: env.step(text))

    if not isinstance(result, tuple) or len(result) != 5:
        raise Fault(
            f"{name} returned {shortened(result)}",
            "return observation, reward, terminated, truncated, info",
        )
    observation, reward, terminated, truncated, info = result
    if not isinstance(observation, str):
        raise Fault(
            f"step observes {type(observation).__name__}, not text: {shortened(observation)}",
            "return a str: what the model reads next, or '' if the episode is over",
        )
    if not isinstance(info, dict):
        raise Fault(
            f"{name} returned the info {shortened(info)}",
            "return a dict, which is empty if there is nothing to say",
        )
    _check_reward(name, reward, info)

    is_over = bool(terminated or truncated)
    if is_over:
        _check_correctness(name, info)
    return is_over


def prompts_in_another_process(
    env: Any, settings: Mapping[str, Any], seeds: Sequence[int]
) -> list[str]:
    """Returns the prompts of some seeds in another process, where texts have other hashes.

    Args:
        env: Environment as `check_environment` takes it.
        settings: Settings of the environment.
        seeds: Reset seeds, at least one.

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
    with _another_hash_seed():
        process.start()
    sending.close()

    # The process replies with a list of prompts, or with a text that says what went wrong.
    try:
        reply = receiving.recv() if receiving.poll(CALL_TIMEOUT_SECONDS) else "no reply"
    except EOFError:
        reply = "it ended the process"
    finally:
        process.kill()
        process.join()

    if isinstance(reply, str):
        raise Fault(
            f"in another process: {reply}",
            "it must work in any process that can import its module",
        )
    return list(reply)


def shortened(value: Any) -> str:
    """A value as Python writes it, shortened if it is long."""
    text = repr(value)
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[: _SHOWN_CHARACTERS - 3]}..."


def _check_reward(name: str, reward: Any, info: Mapping[str, Any]) -> None:
    if isinstance(reward, bool) or not hasattr(reward, "__float__") or math.isinf(float(reward)):
        raise Fault(
            f"{name} gave the reward {shortened(reward)}, which is not a finite number",
            "return a float; if there is no verdict, NaN with the reason in info['missing_reason']",
        )
    if not math.isnan(float(reward)):
        return

    reason = str(info.get("missing_reason") or "")
    if not reason:
        raise Fault(
            f"{name} gave the reward NaN, which means that there is no verdict, but not the reason",
            "put the reason in info['missing_reason'], or return a finite number",
        )
    if reason.startswith(MissingReason.CRASH):
        raise Fault(f"{name}: {reason}", "the scorer must not raise, whatever a model wrote")


def _check_correctness(name: str, info: Mapping[str, Any]) -> None:
    correct: Any = info.get("is_correct")
    if hasattr(correct, "item"):  # NumPy's bool is not a Python bool
        correct = correct.item()

    if not isinstance(correct, bool | None):
        raise Fault(
            f"{name} gave info['is_correct'] = {shortened(correct)}",
            "give True or False; None if there is no verdict; leave the key out if the environment "
            "only grades",
        )


@contextmanager
def _another_hash_seed() -> Iterator[None]:
    """Sets a hash seed other than this process's, for processes that are started meanwhile."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "1" if before != "1" else "2"
    try:
        yield
    finally:
        del os.environ["PYTHONHASHSEED"]
        if before is not None:
            os.environ["PYTHONHASHSEED"] = before


def _send_prompts(connection: Any, sent: bytes) -> None:
    """Runs in the other process."""
    try:
        env, settings, seeds = pickle.loads(sent)
        made = make_environment(env, settings)
        connection.send([made.reset(seed=seed)[0] for seed in seeds])
        made.close()
    except Exception as error:
        connection.send(f"{type(error).__name__}: {' '.join(str(error).split())}")
