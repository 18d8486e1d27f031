"""The user's RLlib callbacks, as far as an EnvRunner calls them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.utils import force_list

from rllib_dapo.core.types import PromptGroup
from rllib_dapo.rollout.episodes import to_episode

if TYPE_CHECKING:
    from ray.rllib.env.env_context import EnvContext
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode

    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.rollout.env_runner import TextEnvRunner


class UserCallbacks:
    """Callback classes and functions of a configuration, set by `DAPOConfig.callbacks`."""

    def __init__(self, config: DAPOConfig) -> None:
        """Makes one object of every callback class."""
        self._config = config
        self._objects = [cls() for cls in force_list(config.callbacks_class)]

    def on_environment_created(self, env_runner: TextEnvRunner, env_context: EnvContext) -> None:
        """Calls `on_environment_created` for the EnvRunner's training environment."""
        self._call(
            "on_environment_created", env_runner, env=env_runner.env, env_context=env_context
        )

    def after_sampling(self, env_runner: TextEnvRunner, groups: Sequence[PromptGroup]) -> None:
        """Calls `on_episode_end` for every response and `on_sample_end` for all of them together.

        Episodes are built only for callbacks that exist: it takes time, and nothing else needs
        them.
        """
        if self._has_callback("on_episode_end"):
            for episode in _episodes(groups):
                self._call(
                    "on_episode_end",
                    env_runner,
                    episode=episode,
                    env=env_runner.env,
                    env_index=0,
                    rl_module=env_runner.module,
                )

        if self._has_callback("on_sample_end"):
            self._call("on_sample_end", env_runner, samples=_episodes(groups))

    def _has_callback(self, name: str) -> bool:
        functions = getattr(self._config, f"callbacks_{name}")
        return bool(functions) or any(
            getattr(type(one), name) is not getattr(RLlibCallback, name) for one in self._objects
        )

    def _call(self, name: str, env_runner: TextEnvRunner, **kwargs: Any) -> None:
        common = {"env_runner": env_runner, "metrics_logger": env_runner.metrics}
        make_callback(
            name,
            callbacks_objects=self._objects,
            callbacks_functions=getattr(self._config, f"callbacks_{name}"),
            kwargs=common | kwargs,
        )


def _episodes(groups: Sequence[PromptGroup]) -> list[SingleAgentEpisode]:
    return [to_episode(group, response) for group in groups for response in group.responses]
