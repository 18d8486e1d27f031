"""Play Gymnasium's own games as text: a wrapper that says what is seen, and reads what is done.

    python examples/gymnasium_text.py [GAME] [MODEL] [ITERATIONS] [ENGINE]

GAME is one of `GAMES` below; toy texts need no package beside Gymnasium. In this folder,
`rllib-dapo check-env gymnasium_text:TextGame --set env_config.game=Taxi-v3` checks one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium

from rllib_dapo import DAPOConfig
from rllib_dapo.envs import Turn, TurnsEnv


@dataclass(frozen=True)
class Game:
    """How a game is told."""

    rules: str
    actions: tuple[str, ...]  # the words for Gymnasium's actions 0, 1, 2 and so on
    options: dict[str, Any]  # of gymnasium.make
    state: Callable[[Any], str] | None = None  # None: the game draws itself


def taxi_state(number: int) -> str:
    """Takes Taxi's one number apart, as Gymnasium's page about it does."""
    number, target = divmod(number, 4)
    number, passenger = divmod(number, 5)
    row, column = divmod(number, 5)
    places = ("row 0, column 0", "row 0, column 4", "row 4, column 0", "row 4, column 3", "in it")
    where = f"Taxi at row {row}, column {column}. Passenger: {places[passenger]}."
    return f"{where} Target: {places[target]}."


ANSI = {"render_mode": "ansi"}
MOVES = ("left", "down", "right", "up")
GAMES = {
    "FrozenLake-v1": Game(
        "Walk from S over F to G, and not into a hole H.", MOVES, {"is_slippery": False, **ANSI}
    ),
    "CliffWalking-v1": Game(
        "Walk from x to T, and not over the cliff C.", ("up", "right", "down", "left"), ANSI
    ),
    "Taxi-v3": Game(
        "Fetch the passenger and drive to the target.",
        ("south", "north", "east", "west", "pickup", "dropoff"),
        {},
        taxi_state,
    ),
    "Blackjack-v1": Game(
        "Get closer to 21 than the dealer, and not above.",
        ("stick", "hit"),
        {},
        "You have {0[0]}, the dealer shows {0[1]}, your usable aces: {0[2]}.".format,
    ),
    "CartPole-v1": Game(
        "Keep the pole upright by pushing the cart.",
        ("left", "right"),
        {},
        "Cart at {0[0]:.2f} moving {0[1]:.2f}, pole at {0[2]:.2f} turning {0[3]:.2f}.".format,
    ),
}


class TextGame(TurnsEnv):
    """A Gymnasium game, told as text. A response acts by the last of the words that it contains.

    Settings, with their defaults:
        game: FrozenLake-v1; one of `GAMES`.
        max_turns: 8; the game is cut off after this many responses.
        success_at: None; the last reward from which a game is won. The others only grade.
    """

    default_settings: ClassVar[dict[str, Any]] = {
        **TurnsEnv.default_settings,
        "game": "FrozenLake-v1",
        "max_turns": 8,
    }

    def __init__(self, config: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        if self.settings["game"] not in GAMES:
            raise ValueError(f"game={self.settings['game']!r}: must be one of {', '.join(GAMES)}")
        self._game = GAMES[self.settings["game"]]
        self._env = gymnasium.make(self.settings["game"], **self._game.options)

    def begin(self, seed: int) -> str:
        """Begins the game of a seed; Gymnasium draws whatever happens in it from that."""
        observation, _ = self._env.reset(seed=seed)
        words = ", ".join(self._game.actions)
        return f"{self._game.rules} Say one of: {words}.\n{self._seen(observation)}\n"

    def turn(self, response: str) -> Turn:
        """Acts; a response without any of the words loses a turn."""
        said = re.findall("|".join(self._game.actions), response[-2000:].lower())
        if not said:
            return Turn(observation="Say one of the words.", reward=0.0, done=False)

        action = self._game.actions.index(said[-1])
        observation, reward, terminated, truncated, _ = self._env.step(action)
        is_over = terminated or truncated
        return Turn(observation=self._seen(observation), reward=float(reward), done=is_over)

    def close(self) -> None:
        """Closes the game."""
        self._env.close()

    def _seen(self, observation: Any) -> str:
        if self._game.state is not None:
            return self._game.state(observation)
        drawn = str(self._env.render())
        # The place of the player is a colour in a terminal, and brackets in a text.
        drawn = re.sub(r"\x1b\[4[0-9]m(.*?)\x1b\[0m", r"[\1]", drawn, flags=re.S)
        return re.sub(r"\x1b\[[0-9;]*m", "", drawn).strip()


def main(
    game: str = "FrozenLake-v1", model: str = "tiny", iterations: str = "2", engine: str = "vllm"
) -> None:
    config = (
        DAPOConfig()
        .environment(TextGame, env_config={"game": game, "max_turns": 4})
        .language_model(model, dtype="float32")
        .rollout(engine=engine, max_prompt_tokens=320, max_response_tokens=160, max_turns=4)
        .training(lr=3e-4, prompts_per_step=4, group_size=4, minibatch_size=8)
        # A model that cannot play earns the same with every response, so nothing would be left.
        .dynamic_sampling(enabled=False)
    )

    algo = config.build_algo()
    for iteration in range(int(iterations)):
        rollouts = algo.train()["env_runners"]
        shown = f"mean reward {rollouts['episode_return_mean']:.3f}"
        shown += f", missing {rollouts['missing_reward_fraction']:.3f}"
        print(f"iteration {iteration + 1}: {shown}", flush=True)
    algo.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
