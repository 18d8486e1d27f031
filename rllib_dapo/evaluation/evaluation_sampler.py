"""Samples responses with the EnvRunners and engines that training uses, but without Learners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.annotations import override

from rllib_dapo.core.types import PromptGroup
from rllib_dapo.rollout.env_runner import TextEnvRunner
from rllib_dapo.rollout.rollout_result import RolloutResult
from rllib_dapo.rollout.rollout_stream import RolloutStream

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """An environment and its settings, as `DAPOConfig.environment` takes them."""

    env: Any
    env_config: Mapping[str, Any]


class EvaluationRunner(TextEnvRunner):
    """A `TextEnvRunner` that can change its environment and keep its engine."""

    def use(self, environment: Environment) -> None:
        """Closes the present environment and makes another.

        Args:
            environment: The next environment.
        """
        self._environments.close()
        self.config = with_environment(self.config, environment)
        self._make_callbacks_and_envs()

    @override(TextEnvRunner)
    def sample_groups(self, seeds: Sequence[int], *, evaluation: bool = False) -> RolloutResult:
        """Samples as `TextEnvRunner` does, as if this were the first call."""
        # A cached prompt was computed in another batch, and so rounded in another way. It would let
        # the responses depend on what was asked before, and on whether the evaluation was
        # interrupted.
        self.module[DEFAULT_MODULE_ID].engine.forget_prompts()
        return super().sample_groups(seeds, evaluation=evaluation)


class EvaluationSampler:
    """One engine in this process, or one in each of several EnvRunners."""

    def __init__(self, config: DAPOConfig) -> None:
        """Starts the engines.

        Args:
            config: Valid configuration with an environment. With `num_env_runners=0` Ray is not
                needed.
        """
        self._environment = Environment(env=config.env, env_config=config.env_config)
        self._runner: EvaluationRunner | None = None
        self._group: EnvRunnerGroup | None = None

        config = config.copy(copy_frozen=False).env_runners(env_runner_cls=EvaluationRunner)
        if config.num_env_runners == 0:
            self._runner = EvaluationRunner(config=config, worker_index=0, num_workers=0)
            return

        self._group = EnvRunnerGroup(config=config, local_env_runner=False)
        self._stream = RolloutStream(
            self._group,
            max_groups_in_flight=config.max_groups_in_flight,
            timeout_seconds=config.sample_timeout_s,
            restore_env_runners=self._restore,
        )

    def use(self, environment: Environment) -> None:
        """Changes the environment; the engines go on.

        Args:
            environment: The next environment.
        """
        if environment == self._environment:
            return

        self._environment = environment
        if self._runner is not None:
            self._runner.use(environment)
        else:
            self._send_environment()

    def sample(self, requests: Sequence[Sequence[int]]) -> Iterator[list[PromptGroup]]:
        """Samples requests, each as one batch on one engine.

        The responses to a request depend only on the request, the weights and the settings: not on
        the other requests, their order, or the number of EnvRunners.

        Args:
            requests: Prompt seeds of each request, at least one.

        Yields:
            The groups of each request as it is completed.
        """
        for result in self._results(requests):
            yield [group.group() for group in result.groups]

    def _results(self, requests: Sequence[Sequence[int]]) -> Iterator[RolloutResult]:
        if self._runner is None:
            return self._stream.results(requests, evaluation=True)

        runner = self._runner
        return (runner.sample_groups(request, evaluation=True) for request in requests)

    def close(self) -> None:
        """Stops the engines and environments."""
        if self._runner is not None:
            self._runner.stop()
        if self._group is not None:
            self._group.stop()

    def _restore(self) -> None:
        """Brings restarted EnvRunners back."""
        assert self._group is not None
        # A restarted EnvRunner has the first environment again.
        if self._group.probe_unhealthy_env_runners():
            self._send_environment()

    def _send_environment(self) -> None:
        """Gives every EnvRunner the present environment."""
        assert self._group is not None
        environment = self._environment
        self._group.foreach_env_runner(
            lambda runner: runner.use(environment), local_env_runner=False
        )


def with_environment(config: DAPOConfig, environment: Environment) -> DAPOConfig:
    """Copies a configuration and replaces its environment, for evaluation too.

    Args:
        config: Configuration whose other settings are kept.
        environment: The new environment. Settings of the previous one are not merged into it.
    """
    changed = config.copy(copy_frozen=False)
    changed.env, changed.env_config = environment.env, dict(environment.env_config)
    changed.evaluation_config = None
    return changed
