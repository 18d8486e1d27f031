"""Games for one player of the hub textarena."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rllib_dapo.envs.adapters.hub import HubEnv, cannot_make, import_hub, refuse_unknown_task
from rllib_dapo.envs.turns import Turn

_INSTALL = "pip install -e '.[hubs]' in a checkout"
_RAW = "-raw"
_LONGEST_MOVE = 2_000  # characters; some games raise on a number of thousands of digits


class TextArenaEnv(HubEnv):
    """A game of textarena that is played alone.

    The game is made anew for each episode, because textarena's wrappers keep what was said in
    earlier ones, and without them (`-raw`), because they repeat the whole game at each move: in a
    conversation, the model has that before it already. The last 2,000 characters of a response are
    the move.

    Settings: see `HubEnv`; `task` is such as "GuessTheNumber-v0".

    Raises:
        ValueError: If a setting is refused, or the game is one for several players: textarena
            brings no opponent but language models behind an interface on the web.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self._textarena = textarena = import_hub("textarena", install=_INSTALL)
        raw = [name for name in textarena.envs.registration.ENV_REGISTRY if name.endswith(_RAW)]
        refuse_unknown_task(self.task, [name.removesuffix(_RAW) for name in raw])
        self._refuse_several_players()
        self._game: Any = None

    def begin(self, seed: int) -> str:
        """Begins the game of a seed; textarena seeds Python's own generator, and draws from it."""
        self._game = self._make(seed)
        return self._said()

    def turn(self, response: str) -> Turn:
        """Makes a move; rewards come at the end."""
        done, _ = self._game.step(response[-_LONGEST_MOVE:])
        if not done:
            return Turn(observation=self._said(), reward=0.0, done=False)

        rewards, _ = self._game.close()
        return Turn(reward=rewards[0])

    def _make(self, seed: int) -> Any:
        game = self._textarena.make(f"{self.task}{_RAW}", **self.arguments)
        game.reset(num_players=1, seed=seed)
        return game

    def _refuse_several_players(self) -> None:
        # A game for several raises whatever it likes where it is to be played alone, or goes on.
        try:
            game = self._make(0)
        except Exception as error:
            if "player" in str(error).lower():
                raise _for_several(self.task) from error
            raise cannot_make(self.task, error) from error
        if not isinstance(game.state, self._textarena.SinglePlayerState):
            raise _for_several(self.task)

    def _said(self) -> str:
        """Returns what the game has said since the last move."""
        _, messages = self._game.get_observation()
        game = self._textarena.GAME_ID
        return "\n".join(text for speaker, text, _ in messages if speaker == game)


def _for_several(task: str) -> ValueError:
    return ValueError(
        f"task={task!r}: is a game for several players, and textarena brings no opponent that "
        "plays by rules; name a game for one player, such as GuessTheNumber-v0"
    )
