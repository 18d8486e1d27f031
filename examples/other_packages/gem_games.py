"""Games of gem (`pip install gem-llm`): they are much like Gymnasium's, with text in and out.

    rllib-dapo check-env gem_games:GemGame
    rllib-dapo train games.yaml --set environment.env=gem_games:GemGame

Run both in this folder. Any of gem's ids does: `--set env_config.game=game:Mastermind-v0-easy`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gem

from rllib_dapo.envs import Turn, TurnsEnv


class GemGame(TurnsEnv):
    """A game of gem.

    Settings, with their defaults:
        game: game:GuessTheNumber-v0-easy; an id that `gem.make` knows.
        max_turns: 8; the game is cut off after this many responses.
        success_at: 1.0; the last reward from which the game is won.
    """

    default_settings: ClassVar[dict[str, Any]] = {
        "game": "game:GuessTheNumber-v0-easy",
        "max_turns": 8,
        "success_at": 1.0,
    }

    def __init__(self, config: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self._env = gem.make(self.settings["game"])

    def begin(self, seed: int) -> str:
        """Begins the game of a seed; gem draws from Python's own generator, which it seeds."""
        observation, info = self._env.reset(seed=seed)
        return _with_suffix(observation, info)

    def turn(self, response: str) -> Turn:
        """Makes a move."""
        observation, reward, terminated, truncated, info = self._env.step(response)
        return Turn(
            observation=_with_suffix(observation, info),
            reward=float(reward),
            done=bool(terminated or truncated),
        )


def _with_suffix(observation: str, info: dict[str, Any]) -> str:
    """What gem's own wrappers show: some games say apart what is asked for next."""
    return "\n".join(part for part in (observation, info.get("suffix", "")) if part)
