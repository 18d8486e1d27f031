"""Environments that people really write: each with one thing that is wrong, odd, or fine."""

from __future__ import annotations

import decimal
import os
import random
import signal
import sys
import threading
from typing import Any

import gymnasium
import numpy as np
from faulty_envs import Sound

from rllib_dapo.envs import TextSpace


def rewarding(reward: Any) -> type[Sound]:
    """An environment whose every response earns this."""

    class Rewarding(Sound):
        def reward(self, action: str) -> Any:
            return reward

    return Rewarding


def tensor_reward(value: Any) -> type[Sound]:
    """An environment whose every response earns a tensor; torch takes seconds to import."""

    class RewardingTensor(Sound):
        def reward(self, action: str) -> Any:
            import torch

            return torch.tensor(value)

    return RewardingTensor


def stepping(*values: Any) -> type[Sound]:
    """An environment whose every step returns these values."""

    class Stepping(Sound):
        def step(self, action: str) -> Any:
            return values

    return Stepping


def prompting(make: Any) -> type[Sound]:
    """An environment whose prompt is made from the seed by a function."""

    class Prompting(Sound):
        def prompt(self, seed: int) -> Any:
            return make(seed)

    return Prompting


class AsyncStep(Sound):
    async def step(self, action: str) -> Any:  # type: ignore[override]
        return "", 0.0, True, False, {}


class AsyncReset(Sound):
    async def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return "Say 1.", {}


class InfoOfResetIsNone(Sound):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0], None


class DeclaresNoTool(Sound):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        prompt, info = super().reset(seed=seed)
        return prompt, {**info, "tools": [{"name": "add"}]}


class TakesNoSeed(Sound):
    def reset(self) -> Any:  # type: ignore[override]
        return "Say 5.", {}


class WantsNumpySeeds(Sound):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if not isinstance(seed, np.int64):
            raise TypeError("the seed must be an np.int64")
        return super().reset(seed=int(seed))


class HiddenNumberIsNotSeeded(Sound):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.number = random.randint(0, 10**9)
        return "Guess my number.", {}

    def step(self, action: str) -> Any:
        return f"It was {self.number}.", 0.0, True, False, {}


class RaisesOnOneSeed(Sound):
    def prompt(self, seed: int) -> str:
        if seed == 7:
            raise KeyError("no problem 7")
        return super().prompt(seed)


class Exits(Sound):
    def reward(self, action: str) -> float:
        sys.exit(3)


class Interrupts(Sound):
    def reward(self, action: str) -> float:
        raise KeyboardInterrupt


class ExitsAtOnce(Sound):
    def reward(self, action: str) -> float:
        os._exit(3)


class Segfaults(Sound):
    def reward(self, action: str) -> float:
        if "boxed" in action:
            os.kill(os.getpid(), signal.SIGSEGV)
        return 0.0


class SegfaultsWhenMade(Sound):
    def __init__(self, config: dict[str, Any] | None = None, **kwargs: Any) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class SegfaultsInReset(Sound):
    def prompt(self, seed: int) -> str:
        os.kill(os.getpid(), signal.SIGSEGV)
        return ""


class HangsWhenMade(Sound):
    def __init__(self, config: dict[str, Any] | None = None, **kwargs: Any) -> None:
        threading.Event().wait()


class HangsInReset(Sound):
    def prompt(self, seed: int) -> str:
        threading.Event().wait()
        return ""


class HangsInStep(Sound):
    def reward(self, action: str) -> float:
        while True:
            pass


class HangsInClose(Sound):
    def close(self) -> None:
        threading.Event().wait()


class RaisesInClose(Sound):
    def close(self) -> None:
        raise OSError("the connection is gone")


class TakesAllMemory(Sound):
    taken: Any = b""

    def reward(self, action: str) -> float:
        self.taken += b"x" * (1 << 26)
        return 0.0


class Talks(Sound):
    def reward(self, action: str) -> float:
        print("hello" * 1000)  # noqa: T201
        print("hello", file=sys.stderr, flush=True)  # noqa: T201
        os.write(1, b"hello\n")
        return 0.0


class StartsThreads(Sound):
    def reward(self, action: str) -> float:
        threading.Thread(target=threading.Event().wait).start()
        return 0.0


class Forks(Sound):
    def reward(self, action: str) -> float:
        if os.fork() == 0:
            threading.Event().wait()
        return 0.0


class NoSpaces(gymnasium.Env):
    def __init__(self, config: dict[str, Any] | None = None) -> None:
        pass

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return f"Say {seed}.", {}


class NotAnEnvironment:
    def __init__(self, config: Any) -> None:
        pass

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return f"Say {seed}.", {}


class Unpicklable(Sound):
    lock = threading.Lock()


class Wrapped(gymnasium.Wrapper):
    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(Sound())


class CutOff(gymnasium.wrappers.TimeLimit):
    """Two turns of an environment that never ends."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        from faulty_envs import NeverEnds

        super().__init__(NeverEnds(), max_episode_steps=2)


class TextsBesideNumbers(Sound):
    """Says its state as text, and wants numbers."""

    action_space = gymnasium.spaces.Discrete(4)

    def step(self, action: Any) -> Any:
        return "", [0.0, 0.0, 1.0, 0.0][action], True, False, {}


class LeavesSpacesOfNumbers(Sound):
    """Works with texts, but has kept the spaces of what it wraps."""

    action_space, observation_space = gymnasium.spaces.Discrete(4), gymnasium.spaces.Discrete(9)


class LongObservations(Sound):
    def step(self, action: str) -> Any:
        self.turns = getattr(self, "turns", 0) + 1
        return "x" * 1_000_000, 0.0, self.turns % 3 == 0, False, {}

    action_space = TextSpace(200_000)
    observation_space = TextSpace(2_000_000)


# What is wrong with each, by a part of the one finding; None: nothing is.
BREAKS: dict[str, tuple[type, str]] = {
    "reward: inf": (rewarding(float("inf")), "gave the reward inf, which is not a finite number"),
    "reward: array": (rewarding(np.array([1.0, 0.0])), "gave the reward array([1., 0.]), which"),
    "reward: None": (rewarding(None), "gave the reward None, which is not a finite number"),
    "reward: text": (rewarding("yes"), "gave the reward 'yes', which is not a finite number"),
    "reward: tensor": (tensor_reward([1.0, 1.0, 1.0]), "gave the reward tensor([1., 1., 1.])"),
    "reward: huge int": (rewarding(10**400), "which is not a finite number"),
    "reward: bool": (rewarding(True), "gave the reward True, which is not a finite number"),
    "terminated: None": (stepping("", 0.0, None, True, {}), "gave terminated=None, which is nei"),
    "reward: list": (rewarding([1.0]), "gave the reward [1.0]"),
    "async step": (AsyncStep, "step is a coroutine function (async def)"),
    "async reset": (AsyncReset, "reset is a coroutine function (async def)"),
    "prompt: 1 MB": (
        prompting(lambda seed: f"{seed}" + "x" * 1_000_000),
        "gives a prompt of 1,000,001 characters, longer than any prompt limit",
    ),
    "observation: 1 MB": (LongObservations, "observes 1,000,000 characters, more than fits"),
    "prompt: dict": (prompting(lambda seed: {"x": seed}), "reset observes dict, not text: {'x': 0"),
    "prompt: bytes": (prompting(lambda seed: b"Say"), "reset observes bytes, not text: b'Say'"),
    "prompt: None": (prompting(lambda seed: None), "reset observes NoneType, not text: None"),
    "prompt: list": (prompting(lambda seed: [1, 2]), "reset observes list, not text: [1, 2]"),
    "tools: another form": (DeclaresNoTool, "a tool is {'type': 'function'"),
    "info: None in reset": (InfoOfResetIsNone, "reset returned the info None"),
    "info: None in step": (stepping("", 0.0, True, False, None), "returned the info None"),
    "four values": (stepping("", 0.0, True, {}), "returned 4 values instead of 5"),
    "None": (stepping(), "returned 0 values instead of 5"),
    "terminated: text": (
        stepping("", 0.0, "no", False, {}),
        "gave terminated='no', which is neither",
    ),
    "terminated: array": (
        stepping("", 0.0, np.array([True, False]), False, {}),
        "which is neither true nor false",
    ),
    "observation: int": (stepping(5, 0.0, False, False, {}), "step observes int, not text: 5"),
    "is_correct: text": (
        stepping("", 0.0, True, False, {"is_correct": "no"}),
        "gave info['is_correct'] = 'no'",
    ),
    "components: list": (
        stepping("", 0.0, True, False, {"reward_components": [1.0]}),
        "gave info['reward_components'] = [1.0]",
    ),
    "no seed": (TakesNoSeed, "unexpected keyword argument 'seed'"),
    "NumPy's seeds": (WantsNumpySeeds, "raised TypeError: the seed must be an np.int64"),
    "one seed raises": (RaisesOnOneSeed, "reset(seed=7) raised KeyError: 'no problem 7'"),
    "SystemExit": (Exits, "raised SystemExit: 3"),
    "KeyboardInterrupt": (Interrupts, "raised KeyboardInterrupt"),
    "os._exit": (ExitsAtOnce, "step('1') ended its process: the process ended with status 3"),
    "SIGSEGV": (
        Segfaults,
        r"step('\\boxed{\\boxed{\\frac{1}{') ended its process: the process died",
    ),
    "SIGSEGV, made": (SegfaultsWhenMade, "making it ended its process: the process died of signal"),
    "SIGSEGV, reset": (SegfaultsInReset, "reset(seed=0) ended its process: the process died of"),
    "hangs, made": (HangsWhenMade, "making it did not return within 3 s"),
    "hangs, reset": (HangsInReset, "reset(seed=0) did not return within 3 s"),
    "hangs, step": (HangsInStep, "step('1') did not return within 3 s"),
    "hangs, close": (HangsInClose, "close() did not return within 3 s"),
    "raises in close": (RaisesInClose, "close() raised OSError: the connection is gone"),
    "memory": (TakesAllMemory, "took more than 0.25 GiB of memory"),
    "no spaces": (NoSpaces, "its observation_space is None, not a Gymnasium space"),
    "no environment": (NotAnEnvironment, "gave NotAnEnvironment, which is not a gymnasium.Env"),
    "actions are numbers": (TextsBesideNumbers, "it is not about texts: its actions are Discrete"),
}
LOOK: dict[str, tuple[type, str]] = {
    "one prompt": (prompting(lambda seed: "Say 5."), "12 different seeds gave 1 different prompt"),
    "hidden number": (HiddenNumberIsNotSeeded, "after reset(seed=0) observed 'It was"),
    "observation: None": (stepping(None, 0.0, True, False, {}), "step observes NoneType"),
    "no end": (stepping("go on", 0.0, False, False, {}), "times the same response did not end"),
}
FINE: dict[str, type] = {
    "sound": Sound,
    "reward: int": rewarding(1),
    "reward: float32": rewarding(np.float32(0.5)),
    "reward: Decimal": rewarding(decimal.Decimal("0.5")),
    "reward: tensor": tensor_reward(0.5),
    "reward: array of no dimension": rewarding(np.array(0.5)),
    "reward: array of one": rewarding(np.array([0.5])),
    "terminated: 1": stepping("", 0.0, 1, 0, {}),
    "terminated: np.bool_": stepping("", 0.0, np.bool_(True), np.bool_(False), {}),
    "is_correct: np.bool_": stepping("", 0.0, True, False, {"is_correct": np.bool_(True)}),
    "messages": prompting(lambda seed: [{"role": "user", "content": f"Say {seed}."}]),
    "prints": Talks,
    "threads": StartsThreads,
    "forks": Forks,
    "wrapper": Wrapped,
    "time limit": CutOff,
}
