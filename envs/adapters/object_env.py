"""Any object with `reset(seed)` and `step(text)` as an environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from rllib_dapo.envs.adapters.references import resolve_reference
from rllib_dapo.envs.turns import Turn, TurnsEnv
from rllib_dapo.envs.verify import MissingReason

_SHAPES = (
    "a number (the reward), a bool (correct or not), (observation, reward, done), "
    "(observation, reward, done, info) or Gymnasium's five values"
)


class ObjectEnv(TurnsEnv):
    """Wraps an object that knows nothing of Gymnasium.

    `reset(seed)` returns the prompt, or a tuple that begins with it. `step(text)` returns the
    reward as a number, or a bool that says whether the response is correct: both end the episode.
    To go on it returns `(observation, reward, done)`, optionally followed by an info dict, or what
    Gymnasium's `step` returns; an `is_correct` in the info is kept.

    Settings, with their defaults:
        object: "package.module:Class", a class or another callable that makes the object; has no
            default.
        arguments: {}; what the object is made with, by name.
        max_turns: 1; the episode is cut off after this many responses.
        success_at: None; if set, an episode whose last reward is at least this is a success.

    Raises:
        ValueError: If a setting is refused or the object lacks one of the two methods.
    """

    default_settings: ClassVar[Mapping[str, Any]] = {
        "object": None,
        "arguments": None,
        **TurnsEnv.default_settings,
    }

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        arguments = self.settings["arguments"] or {}
        if not isinstance(arguments, Mapping):
            raise ValueError(
                f"arguments={arguments!r}: must be a mapping from argument names to values"
            )

        make = resolve_reference("object", self.settings["object"])
        if not callable(make):
            raise ValueError(
                f"object={self.settings['object']!r}: must be package.module:Class, or a class or "
                "function that makes the object"
            )
        self._object = make(**arguments)

        missing = [
            name for name in ("reset", "step") if not callable(getattr(self._object, name, None))
        ]
        if missing:
            kind = type(self._object).__name__
            raise ValueError(f"object={self.settings['object']!r}: a {kind} has no {missing[0]}()")

    def begin(self, seed: int) -> str:
        """Resets the object with the seed."""
        prompt = self._object.reset(seed)
        if isinstance(prompt, tuple) and prompt:
            prompt = prompt[0]
        if not isinstance(prompt, str):
            kind = type(self._object).__name__
            raise TypeError(f"{kind}.reset must return a text, not {type(prompt).__name__}")
        return prompt

    def turn(self, response: str) -> Turn:
        """Steps the object.

        One that raises gives no verdict, because what it reads was written by a model.
        """
        try:
            return as_turn(self._object.step(response))
        except Exception as error:
            return Turn(
                reason=f"{MissingReason.CRASH}: the scorer raised {type(error).__name__}: {error}"
            )

    def close(self) -> None:
        """Closes the object, if it can be closed."""
        if callable(getattr(self._object, "close", None)):
            self._object.close()


def as_turn(result: Any) -> Turn:
    """Reads what an object's `step` returned.

    Raises:
        TypeError: If it is none of the known shapes.
    """
    if isinstance(result, bool | np.bool_):
        return Turn(is_correct=bool(result))
    if hasattr(result, "__float__"):
        return Turn(reward=result)
    if (
        not isinstance(result, tuple)
        or len(result) not in (3, 4, 5)
        or not isinstance(result[0], str | None)
    ):
        raise TypeError(f"step must return {_SHAPES}, not {result!r:.80}")

    observation, reward, done, *rest = result
    info = rest.pop() if rest else {}
    # For the algorithm, an episode that was cut off is over too.
    done = bool(done or (rest and rest.pop()))

    is_correct = info.get("is_correct") if isinstance(info, Mapping) else None
    if isinstance(reward, bool | np.bool_):
        reward, is_correct = None, bool(reward)
    return Turn(observation=observation or "", reward=reward, is_correct=is_correct, done=done)
