"""Games for one player of textarena (`pip install textarena`).

    rllib-dapo check-env textarena_games:ArenaGame
    rllib-dapo train games.yaml --set environment.env=textarena_games:ArenaGame

Run both in this folder. `--set env_config.game=Hangman-v0` names another of textarena's games.
"""

from __future__ import annotations

from typing import Any, ClassVar

import textarena

from rllib_dapo.envs import Turn, TurnsEnv


class ArenaGame(TurnsEnv):
    """A game of textarena that is played alone.

    The game is made anew for each episode, because textarena's wrappers keep what was said in
    earlier ones, and without them (`-raw`), because they repeat the whole game at each move: in a
    conversation, the model has that before it already.

    Settings, with their defaults:
        game: GuessTheNumber-v0; an id that `textarena.make` knows, without `-raw`.
        max_turns: 8; the game is cut off after this many responses.
        success_at: 1.0; the last reward from which the game is won.
    """

    default_settings: ClassVar[dict[str, Any]] = {
        "game": "GuessTheNumber-v0",
        "max_turns": 8,
        "success_at": 1.0,
    }

    def begin(self, seed: int) -> str:
        """Begins the game of a seed; textarena seeds Python's own generator, and draws from it."""
        self._env = textarena.make(f"{self.settings['game']}-raw")
        self._env.reset(num_players=1, seed=seed)
        return self._said()

    def turn(self, response: str) -> Turn:
        """Makes a move; rewards come at the end."""
        # Some games would raise on a number of thousands of digits.
        done, _ = self._env.step(response[-2000:])
        if not done:
            return Turn(observation=self._said(), reward=0.0, done=False)

        rewards, info = self._env.close()
        return Turn(reward=float(rewards[0]), info={"prediction": str(info[0].get("reason", ""))})

    def _said(self) -> str:
        """What the game has said since the last move."""
        _, messages = self._env.get_observation()
        return "\n".join(text for speaker, text, _ in messages if speaker == textarena.GAME_ID)
