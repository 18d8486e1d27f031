"""Checks an environment against the rules that training relies on."""

from __future__ import annotations

import re
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
from gymnasium.utils.env_checker import check_env as gymnasium_check

from rllib_dapo.env_check.guarded_calls import (
    Fault,
    Finding,
    guarded,
    prompts_in_another_process,
    reset,
    shortened,
    step,
)
from rllib_dapo.rollout.make_environment import is_tune_name, make_environment

SEEDS = tuple(range(12))
RESET_SECONDS, STEP_SECONDS = 1.0, 5.0  # medians above which sampling waits for the environment
MAX_TURNS = 100

ODD_TEXTS = (
    "",
    " \n\t\r\n ",
    "\0",
    "\ud800",  # half of a character, which UTF-8 cannot encode
    "x" * 100_000,
    "9" * 10_000,
    "9^{9^{9^9}} 9**9**9**9 1e999999999 (10!)!",
    "Answer: Answer: Answer:",
    r"\boxed{\boxed{\frac{1}{",
    "}" * 500 + "{" * 500 + "(" * 500,
    "{} {0} {x} %s %(x)s %n ${HOME} $(ls) `ls`",
    "__import__('os').getcwd()",
    "[[[[1, 2], {'a': None}], float('nan')]]",
    "\u202eright to left\u202c \u0645\u0631\u062d\u0628\u0627 \U0001f600\U0001f9d1\u200d\U0001f680",
    "NaN inf -inf -0.0 1/0 0x1F 1_000 ½ ² ５",
    "<answer></answer><answer>1</answer></think>",
    "a,b;c|d\te\\n'\"",
    "Answer: 1\nI take that back.\n" * 50,
)

_COLOR = re.compile(r"\x1b\[[0-9;]*m")


def check_environment(env: Any, env_config: Mapping[str, Any] | None = None) -> list[Finding]:
    """Looks for breaches of the rules for text environments in `docs/environments.md`.

    A check that fails does not keep the others from running. Calls run in threads of their own, so
    one that never returns is found too; its thread cannot be stopped.

    Args:
        env: A Gymnasium id, a name registered with Tune, or a class, as in
            `DAPOConfig.environment`.
        env_config: Settings of the environment.

    Returns:
        The findings; empty if the environment keeps all rules.
    """
    settings = dict(env_config or {})
    findings: list[Finding] = []

    @contextmanager
    def collecting() -> Iterator[None]:
        try:
            yield
        except Fault as fault:
            if fault.finding not in findings:
                findings.append(fault.finding)

    def make() -> gym.Env[Any, Any]:
        fix = "give it other settings, or correct __init__"
        made: gym.Env[Any, Any] = guarded(
            "making it", lambda: make_environment(env, settings), fix=fix
        )
        return made

    with collecting():
        made = make()

        for check in (
            _check_prompt,
            _check_odd_texts,
            _check_seeds,
            _check_history,
            _check_speed,
            _check_gymnasium,
        ):
            with collecting():
                check(made)
        with collecting():
            _check_copies(made, make)

        # A name that is registered with Tune is known in this process only.
        if not is_tune_name(env) or ":" in env:
            with collecting():
                _check_processes(made, env, settings)

        with collecting():
            guarded("close()", made.close)
    return findings


def _check_prompt(env: gym.Env[Any, Any]) -> None:
    prompt = reset(env, SEEDS[0])

    if not prompt.strip():
        raise Fault(
            "reset gives an empty prompt", "return the text that the language model is to read"
        )
    if not env.observation_space.contains(prompt):
        raise Fault(
            f"the observation space {env.observation_space!r} does not contain the prompt "
            f"{shortened(prompt)}",
            "use rllib_dapo.envs.TextSpace, which contains any text up to a length",
        )


def _check_odd_texts(env: gym.Env[Any, Any]) -> None:
    """Checks that episodes of texts that break parsers are scored, and end."""
    for number, text in enumerate(ODD_TEXTS):
        if not env.action_space.contains(text):
            raise Fault(
                f"the action space {env.action_space!r} does not contain the response "
                f"{shortened(text)}",
                "use rllib_dapo.envs.TextSpace: a model may write anything",
            )

        reset(env, SEEDS[number % len(SEEDS)])
        if not any(step(env, text) for _ in range(MAX_TURNS)):
            raise Fault(
                f"an episode of {MAX_TURNS} responses {shortened(text)} did not end",
                "set terminated, or truncated after a number of turns",
            )


def _check_seeds(env: gym.Env[Any, Any]) -> None:
    """Checks that equal seeds give equal prompts, and different seeds different ones."""
    prompts = {seed: reset(env, seed) for seed in SEEDS}

    for seed, prompt in prompts.items():
        others = [again for again in (reset(env, seed), reset(env, seed)) if again != prompt]
        if others:
            raise Fault(
                f"reset(seed={seed}) gave {shortened(prompt)}, and then {shortened(others[0])}",
                "make the problem a pure function of the seed: draw only from a generator that is "
                "made from the seed",
            )

    different = len(set(prompts.values()))
    if different <= len(SEEDS) // 2:
        raise Fault(
            f"{len(SEEDS)} different seeds gave {different} different prompts",
            "use the seed that reset is called with: different seeds should give different "
            "problems",
        )


def _check_history(env: gym.Env[Any, Any]) -> None:
    """Checks that earlier seeds, responses and resets without a seed do not change a prompt."""
    prompts = [reset(env, seed) for seed in SEEDS]

    for text in ("1", "something", "Answer: 1"):
        guarded("reset()", env.reset, fix="a reset without a seed must give a problem, too")
        step(env, text)

    backwards = [reset(env, seed) for seed in reversed(SEEDS)][::-1]
    for seed, first, later in zip(SEEDS, prompts, backwards, strict=True):
        if first != later:
            raise Fault(
                f"reset(seed={seed}) gave {shortened(first)}, and after other episodes "
                f"{shortened(later)}",
                "do not keep anything from one episode to the next that a problem depends on",
            )


def _check_speed(env: gym.Env[Any, Any]) -> None:
    resets, steps = [], []
    for seed in SEEDS[:5]:
        began = time.perf_counter()
        reset(env, seed)
        was_reset = time.perf_counter()
        step(env, "The answer is 1.")
        resets.append(was_reset - began)
        steps.append(time.perf_counter() - was_reset)

    for name, times, limit in (("reset", resets, RESET_SECONDS), ("step", steps, STEP_SECONDS)):
        median = statistics.median(times)
        if median > limit:
            raise Fault(
                f"{name} takes {median:.2g} s (median of {len(times)}), longer than {limit:g} s",
                "load what does not change in __init__, and bound the rest: it runs once for every "
                "response",
            )


def _check_gymnasium(env: gym.Env[Any, Any]) -> None:
    """Runs Gymnasium's own checker, whose warnings count as faults too."""
    fix = "see Gymnasium's documentation of Env"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        guarded(
            "Gymnasium's checker",
            lambda: gymnasium_check(env.unwrapped, skip_render_check=True),
            fix=fix,
        )

    for warning in caught:
        if issubclass(warning.category, UserWarning) and "gymnasium" in warning.filename:
            message = _COLOR.sub("", str(warning.message)).removeprefix("WARN:")
            raise Fault(f"Gymnasium's checker: {' '.join(message.split())}", fix)


def _check_copies(env: gym.Env[Any, Any], make: Callable[[], gym.Env[Any, Any]]) -> None:
    """Checks that two environments in one process give the same problems, independently."""
    other = make()
    try:
        for seed in SEEDS[:3]:
            mine = reset(env, seed)
            reset(other, seed + 1)
            step(env, "1")

            if reset(other, seed) != mine:
                raise Fault(
                    "two environments with the same settings give different prompts for seed "
                    f"{seed}",
                    "do not keep anything in the class or the module that a problem depends on",
                )
            step(other, "1")
    finally:
        guarded("close()", other.close)


def _check_processes(made: gym.Env[Any, Any], env: Any, settings: Mapping[str, Any]) -> None:
    """Checks that another process gives the same prompts.

    Python orders sets of texts differently in each process.
    """
    seeds = SEEDS[:3]
    for seed, there in zip(seeds, prompts_in_another_process(env, settings, seeds), strict=True):
        here = reset(made, seed)
        if here != there:
            raise Fault(
                f"reset(seed={seed}) gives {shortened(here)} here, and {shortened(there)} in "
                "another process",
                "sort sets of texts before drawing from them, and do not use hash() of a text or "
                "anything else that differs between processes",
            )
