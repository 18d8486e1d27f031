"""Environments whose episode is a conversation of several turns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium

from rllib_dapo.envs.env_settings import check_integer, is_finite_number, merge_settings
from rllib_dapo.envs.messages import Conversation, Observation, as_observation
from rllib_dapo.envs.spaces import TextSpace
from rllib_dapo.envs.verify import MissingReason

_SEED_BOUND = 2**31  # what an unseeded reset draws from
_MAX_CHARACTERS = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What an environment returns to one response.

    Attributes:
        observation: What the model reads next: a text, or messages.
        reward: Reward of this response. None means 0 within an episode, and at its end that there
            is no verdict, unless `is_correct` gives one.
        is_correct: Whether the episode is a success; None if there is no such notion, or no
            verdict. Before the end: whether the episode is a success if it is cut off here, for
            lack of turns or tokens.
        done: Whether the episode is over.
        reason: Why there is no verdict.
        info: What else `step` puts into its info, such as a `prediction`.
    """

    observation: Observation | Conversation = ""
    reward: float | None = None
    is_correct: bool | None = None
    done: bool = True
    reason: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)


class TurnsEnv(gymnasium.Env[Observation, str]):
    """An environment of which a subclass writes `begin` and `turn`.

    A reward that is missing at the end of an episode, or is not a finite number, is NaN with the
    cause in `info["missing_reason"]`.

    Settings, with their defaults:
        max_turns: 1; the episode is cut off (truncated) after this many responses.
        success_at: None; if set, an episode whose last reward is at least this is a success.

    Args:
        config: Settings by name; what RLlib hands to an environment class.
        **kwargs: Settings by name; what `gymnasium.make` hands over. They win over `config`.

    Raises:
        ValueError: If a setting is refused.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own annotation)
    default_settings: ClassVar[Mapping[str, Any]] = {"max_turns": 1, "success_at": None}

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        self.settings = merge_settings(
            type(self).__name__, self.default_settings, {**(config or {}), **kwargs}
        )
        self.observation_space = TextSpace(_MAX_CHARACTERS)
        self.action_space = TextSpace(_MAX_CHARACTERS)

        self._max_turns = check_integer("max_turns", self.settings["max_turns"], low=1)
        self._success_at = self.settings["success_at"]
        if self._success_at is not None and not is_finite_number(self._success_at):
            raise ValueError(f"success_at={self._success_at!r}: must be a number, or None")
        self._turns_left = 0

    def begin(self, seed: int) -> Observation | Conversation:
        """Starts the episode of a seed and returns the prompt: a text, or messages.

        A pure function of `seed` and the settings.
        """
        raise NotImplementedError

    def turn(self, response: str) -> Turn:
        """Reacts to a response. It is untrusted text."""
        raise NotImplementedError

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: Which episode. None: a seed is drawn from the environment's own generator.
            options: Not used.

        Returns:
            The prompt, and `{"problem_id", "max_turns"}`.

        Raises:
            ValueError: If `begin` gives neither a text nor messages; one line.
        """
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(_SEED_BOUND))

        prompt = as_observation(self.begin(seed))
        self._turns_left = self._max_turns
        return prompt, {"problem_id": str(seed), "max_turns": self._max_turns}

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Hands a response to the environment.

        Returns:
            What the model reads next, the reward (NaN if missing), terminated, truncated, and the
            info.

        Raises:
            gymnasium.error.ResetNeeded: If the episode has not begun or is already over.
            gymnasium.error.InvalidAction: If the action is not a text.
        """
        if not self._turns_left:
            raise gymnasium.error.ResetNeeded("the episode is over or has not begun: call reset()")
        if not isinstance(action, str):
            raise gymnasium.error.InvalidAction(
                f"the action must be a str, not {type(action).__name__}"
            )

        turn = self.turn(action)
        self._turns_left -= 1
        truncated = not turn.done and not self._turns_left
        if turn.done:
            self._turns_left = 0

        reward, info = self._judge(turn, is_over=turn.done or truncated)
        observation = turn.observation or ""
        return as_observation(observation), reward, turn.done, truncated, info

    def _judge(self, turn: Turn, *, is_over: bool) -> tuple[float, dict[str, Any]]:
        info = dict(turn.info)
        if turn.reason:
            return math.nan, info | {"is_correct": None, "missing_reason": turn.reason}
        if turn.reward is not None and not is_finite_number(turn.reward):
            return math.nan, info | _missing(f"the reward is {turn.reward!r}")

        is_correct = turn.is_correct
        if is_over and turn.reward is not None and self._success_at is not None:
            is_correct = float(turn.reward) >= self._success_at
        if is_correct is not None:
            info["is_correct"] = bool(is_correct)
        if turn.reward is not None:
            return float(turn.reward), info

        # Without a reward of its own, a success is worth +1 and a failure -1 (Eq. 7), at the end.
        verdict = None if is_correct is None else 1.0 if is_correct else -1.0
        if not is_over:
            return 0.0, info if verdict is None else info | {"reward_if_cut_off": verdict}
        if verdict is None:
            return math.nan, info | _missing("the episode ended without a reward")
        return verdict, info


def _missing(detail: str) -> dict[str, Any]:
    return {"is_correct": None, "missing_reason": f"{MissingReason.CRASH}: {detail}"}
