"""Environments of the hub gem (`gem-llm`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rllib_dapo.envs.adapters.hub import HubEnv, cannot_make, import_hub, refuse_unknown_task
from rllib_dapo.envs.turns import Turn

_INSTALL = "pip install -e '.[hubs]' in a checkout, then pip install --no-deps gem-llm==0.1.0"

# What gem does with the model's words there is not for a training machine.
_REFUSED = {
    "rg:": (
        "gem hands answers to scorers that evaluate them; environment.env: "
        "rllib_dapo/ReasoningGym-v0 asks the same tasks without that (env_config.task: {name})"
    ),
    "code:": "it runs the programs that the model writes, which is not done here",
    "eval:CodeContest": "it runs the programs that the model writes, which is not done here",
}


class GemEnv(HubEnv):
    """A game or a data set of gem, by the id that `gem.make` knows.

    Of an episode's reward each step gives its part, as gem does.

    Settings: see `HubEnv`; `task` is such as "game:GuessTheNumber-v0-easy".

    Raises:
        ValueError: If a setting is refused, or gem cannot make the environment.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        _refuse_what_runs_code(self.task)
        gem = import_hub("gem", install=_INSTALL)
        known = gem.envs.registration.ENV_REGISTRY
        refuse_unknown_task(self.task, known)

        # A hub's maker may raise anything, a missing data set among it.
        arguments = {**_quiet_arguments(known[self.task].entry_point), **self.arguments}
        try:
            self._env = gem.make(self.task, **arguments)
        except Exception as error:
            raise cannot_make(self.task, error) from error

    def begin(self, seed: int) -> str:
        """Begins the game of a seed; gem seeds Python's and NumPy's own generators with it."""
        observation, info = self._env.reset(seed=seed)
        return _with_suffix(observation, info)

    def turn(self, response: str) -> Turn:
        """Makes a move."""
        observation, reward, terminated, truncated, info = self._env.step(response)
        return Turn(
            observation=_with_suffix(observation, info),
            reward=reward,
            done=bool(terminated or truncated),
        )


def _refuse_what_runs_code(task: str) -> None:
    for prefix, reason in _REFUSED.items():
        if task.startswith(prefix):
            told = reason.format(name=task.removeprefix(prefix))
            raise ValueError(f"task={task!r}: {told}")


def _quiet_arguments(entry_point: Any) -> dict[str, Any]:
    """Returns what keeps gem from starting processes of its own, which ours already is."""
    is_math = isinstance(entry_point, str) and entry_point.endswith(":MathEnv")
    return {"use_mp": False} if is_math else {}


def _with_suffix(observation: str, info: Mapping[str, Any]) -> str:
    """Returns what gem's own wrappers show: some games say apart what is asked for next."""
    return "\n".join(part for part in (observation, info.get("suffix", "")) if part)
