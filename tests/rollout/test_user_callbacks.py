"""RLlib's callbacks on an EnvRunner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup
from rllib_dapo.metrics.rollout_log import logged_figures
from rllib_dapo.rollout.env_runner import TextEnvRunner

MakeConfig = Callable[..., DAPOConfig]


def groups_of(runner: TextEnvRunner, seeds: range | list[int], **kwargs: Any) -> list[PromptGroup]:
    return [sampled.group() for sampled in runner.sample_groups(seeds, **kwargs).groups]


class Recorder(RLlibCallback):
    """Notes what it is called with."""

    calls: list[tuple[str, Any]]

    def on_environment_created(self, *, env: gym.Env, **kwargs: Any) -> None:
        type(self).calls = [("environment_created", env)]

    def on_episode_end(self, *, episode: SingleAgentEpisode, **kwargs: Any) -> None:
        self.calls.append(("episode_end", episode.get_return()))

    def on_sample_end(
        self, *, samples: list[SingleAgentEpisode], env_runner: TextEnvRunner, **kwargs: Any
    ) -> None:
        self.calls.append(("sample_end", [episode.get_return() for episode in samples]))


def test_callbacks_see_the_environment_every_episode_and_every_sample(
    rollout_config: MakeConfig,
) -> None:
    runner = TextEnvRunner(config=rollout_config().callbacks(Recorder))
    groups = groups_of(runner, range(2))
    rewards = [response.reward for group in groups for response in group.responses]
    assert Recorder.calls[0] == ("environment_created", runner.env)
    assert Recorder.calls[1:] == [("episode_end", reward) for reward in rewards] + [
        ("sample_end", rewards)
    ]


def test_a_callback_may_be_a_plain_function_that_logs_a_metric(rollout_config: MakeConfig) -> None:
    def log_length(*, episode: SingleAgentEpisode, metrics_logger: Any, **kwargs: Any) -> None:
        metrics_logger.log_value("letters", len(episode.get_actions(0)), reduce="sum")

    runner = TextEnvRunner(config=rollout_config().callbacks(on_episode_end=log_length))
    results = [runner.sample_groups([0]), runner.sample_groups([1], evaluation=True)]
    letters = [
        sum(
            len(response.text)
            for sampled in result.groups
            for response in sampled.group().responses
        )
        for result in results
    ]
    assert [logged_figures([result])["letters"] for result in results] == letters
    assert logged_figures(results)["letters"] == sum(letters)
