"""The environments of one EnvRunner: those of training and those of evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.rllib.env.env_context import EnvContext

from rllib_dapo.envs.datasets import refuse_overlap
from rllib_dapo.envs.judge.limits_share import share_limits
from rllib_dapo.envs.math import unwrap
from rllib_dapo.envs.row_counts import DataReport
from rllib_dapo.rollout.env_stepper import EnvStepper
from rllib_dapo.rollout.make_env_stepper import make_env_stepper
from rllib_dapo.rollout.make_environment import environment_name, make_environment

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

_TRIED_SEEDS = range(3)


class RunnerEnvironments:
    """Makes the environments of training and of evaluation when they are first needed."""

    def __init__(self, config: DAPOConfig, *, worker_index: int, num_workers: int) -> None:
        """Makes nothing yet.

        Args:
            config: The algorithm's configuration.
            worker_index: RLlib's index of the EnvRunner; 0 is the local one.
            num_workers: Number of remote EnvRunners.
        """
        self._config = config
        self._worker_index = worker_index
        self._num_workers = num_workers
        share_limits(num_workers)
        self._training: EnvStepper | None = None
        self._evaluation: EnvStepper | None = None

    def stepper(self, *, evaluation: bool = False) -> EnvStepper:
        """Returns what steps the environments of training, or those of evaluation."""
        if evaluation:
            if self._evaluation is None:
                self._evaluation = self._make_stepper(self._config.get_evaluation_config_object())
            return self._evaluation

        if self._training is None:
            self._training = self._make_stepper(self._config)
        return self._training

    def env_context(self, config: DAPOConfig, num_made: int = 0) -> EnvContext:
        """Returns the settings that RLlib gives to an environment.

        Args:
            config: Training's or evaluation's configuration.
            num_made: Number of environments that were made from it before.
        """
        return EnvContext(
            config.env_config,
            worker_index=self._worker_index,
            vector_index=num_made,
            num_workers=self._num_workers,
        )

    def prompt_fault(self) -> str:
        """Returns why the first seeds of training give no prompt; empty if one of them does.

        A single reset may fail for a reason that passes, and costs its prompt only.
        """
        for seed in _TRIED_SEEDS:
            [reset] = self.stepper().prompts([seed])
            if reset.prompt is not None:
                return ""
        return reset.reason

    def refuse_overlap(self) -> None:
        """Refuses an evaluation that asks problems which are trained on.

        Only environments that go through lists of problems (their attribute `problems`) can be
        compared.

        Raises:
            ValueError: If a problem is in both lists, however its prompt is wrapped.
        """
        trained_on, held_out = (
            getattr(self.stepper(evaluation=evaluation).env.unwrapped, "problems", None)
            for evaluation in (False, True)
        )
        if isinstance(trained_on, list | tuple) and isinstance(held_out, list | tuple):
            refuse_overlap(
                trained_on,
                held_out,
                bare=unwrap,
                settings="environment.env_config or evaluation_config's env_config",
            )

    def data_reports(self) -> dict[str, DataReport]:
        """Returns what the environments of "training" and "evaluation" have read, if anything.

        Environments that read files tell it by their attribute `data_report`. Evaluation's is left
        out where none has been made.
        """
        made = {"training": self._training, "evaluation": self._evaluation}
        found = {
            name: getattr(stepper.env.unwrapped, "data_report", None)
            for name, stepper in made.items()
            if stepper is not None
        }
        return {name: one for name, one in found.items() if isinstance(one, DataReport)}

    def close(self) -> None:
        """Closes all environments. They are made anew if they are asked for again."""
        for stepper in (self._training, self._evaluation):
            if stepper is not None:
                stepper.close()
        self._training = self._evaluation = None

    def _make_stepper(self, config: DAPOConfig) -> EnvStepper:
        return make_env_stepper(
            lambda num_made: make_environment(config.env, self.env_context(config, num_made)),
            num_threads=self._config.num_env_threads,
            name=environment_name(config.env),
        )
