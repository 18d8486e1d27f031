"""Samples responses with the EnvRunners and engines that training uses, but without Learners."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.annotations import override
from ray.util.queue import Queue

from rllib_dapo.core.types import PromptGroup
from rllib_dapo.evaluation.response_parts import Row, response_row
from rllib_dapo.rollout.conversation import Conversation
from rllib_dapo.rollout.env_runner import TextEnvRunner
from rllib_dapo.rollout.env_stepper import EnvStepper
from rllib_dapo.rollout.make_stream import make_requests
from rllib_dapo.rollout.rollout_loop import RolloutLoop
from rllib_dapo.rollout.rollout_result import RolloutResult

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """An environment and its settings, as `DAPOConfig.environment` takes them."""

    env: Any
    env_config: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationTask:
    """What EvaluationRunners are to sample from now on.

    Attributes:
        environment: The environment.
        weights_version: Version of the weights in their run, which the draws depend on.
        kept: By seed, the samples that are there already.
        number: Tells the responses to this task from late ones to an earlier task.
        queue: Where finished responses go, with the task's number, if the caller is in another
            process.
    """

    environment: Environment
    weights_version: int = 0
    kept: Mapping[int, frozenset[int]] = field(default_factory=dict)
    number: int = 0
    queue: Queue | None = None


class EvaluationRunner(TextEnvRunner):
    """A `TextEnvRunner` that can change its environment and keep its engine.

    It tells of each response as soon as its episode has ended.
    """

    _task: EvaluationTask
    on_response: Callable[[Row], None] | None = None  # in the caller's own process

    def begin(self, task: EvaluationTask) -> None:
        """Takes over a task; the environment is made anew where it is another one.

        Args:
            task: The task.
        """
        self._task = task
        self._weights_version = task.weights_version

        environment = task.environment
        if environment != Environment(env=self.config.env, env_config=self.config.env_config):
            self.environments.close()
            self.config = with_environment(self.config, environment)
            self._make_callbacks_and_envs()
        self._refuse_parts_of_groups()

    @override(TextEnvRunner)
    def sample_groups(self, seeds: Sequence[int], *, evaluation: bool = False) -> RolloutResult:
        """Samples as `TextEnvRunner` does, as if this were the first call."""
        # A cached prompt was computed in another batch, and so rounded in another way. It would let
        # the responses depend on what was asked before, and on whether the evaluation was
        # interrupted.
        self.module[DEFAULT_MODULE_ID].engine.forget_prompts()
        return super().sample_groups(seeds, evaluation=evaluation)

    @override(TextEnvRunner)
    def _make_loop(
        self, env_stepper: EnvStepper, *, evaluation: bool, **options: Any
    ) -> RolloutLoop:
        return super()._make_loop(
            env_stepper,
            evaluation=evaluation,
            left_out=self._task.kept,
            on_response=self._tell,
            **options,
        )

    def _refuse_parts_of_groups(self) -> None:
        """Refuses to add to a group whose responses are compared with each other.

        Raises:
            ValueError: If there is one.
        """
        size = self._sampling(evaluation=False).num_responses
        env = self.environments.stepper().env
        if getattr(env, "scores_groups", False) and any(
            0 < len(kept) < size for kept in self._task.kept.values()
        ):
            raise ValueError(
                "the environment compares all responses to a prompt, and of some prompts only a "
                "part of them is stored: begin the evaluation anew, in another folder"
            )

    def _tell(self, conversation: Conversation) -> None:
        prompt_tokens = len(conversation.prompt_ids)
        row = response_row(
            conversation.seed, conversation.index, prompt_tokens, conversation.response()
        )
        queue, number = self._task.queue, self._task.number
        if queue is not None:
            queue.actor.put_nowait.remote((number, row))  # without waiting for it to arrive
        elif self.on_response is not None:
            self.on_response(row)


class EvaluationSampler:
    """One engine in this process, or one in each of several EnvRunners."""

    def __init__(self, config: DAPOConfig, *, weights_version: int = 0) -> None:
        """Starts the engines.

        Args:
            config: Valid configuration with an environment. With `num_env_runners=0` Ray is not
                needed.
            weights_version: Version of the weights in their run. With it, evaluations draw what
                those of the run did.
        """
        self._runner: EvaluationRunner | None = None
        self._group: EnvRunnerGroup | None = None
        self._on_response: Callable[[Row], None] | None = None

        config = config.copy(copy_frozen=False).env_runners(env_runner_cls=EvaluationRunner)
        if config.num_env_runners == 0:
            self._runner = EvaluationRunner(config=config, worker_index=0, num_workers=0)
        else:
            self._group = EnvRunnerGroup(config=config, local_env_runner=False)
            self._requests = make_requests(
                self._group, config, self._restore, while_waiting=self._pass_on
            )

        self._task = EvaluationTask(
            environment=Environment(env=config.env, env_config=config.env_config),
            weights_version=weights_version,
            queue=Queue(actor_options={"num_cpus": 0}) if self._group is not None else None,
        )
        self._send_task()

    def use(
        self, environment: Environment, *, kept: Mapping[int, frozenset[int]] | None = None
    ) -> None:
        """Changes the environment; the engines go on.

        Args:
            environment: The next environment.
            kept: By seed, the samples that are there already and are not to be sampled again.
        """
        self._task = replace(
            self._task, environment=environment, kept=kept or {}, number=self._task.number + 1
        )
        self._send_task()

    def sample(
        self,
        requests: Sequence[Sequence[int]],
        on_response: Callable[[Row], None] | None = None,
    ) -> Iterator[list[PromptGroup]]:
        """Samples requests, each as one batch on one engine.

        The responses to a request depend only on the request, the weights and the settings: not on
        the other requests, their order, or the number of EnvRunners.

        Args:
            requests: Prompt seeds of each request, at least one.
            on_response: Called with each response as soon as it is there, see `response_row`. From
                other processes some may come late: after their request is completed, or never.

        Yields:
            The groups of each request as it is completed.
        """
        self._on_response = on_response
        if self._runner is not None:
            self._runner.on_response = on_response
        for result in self._results(requests):
            yield [group.group() for group in result.groups]

    def _results(self, requests: Sequence[Sequence[int]]) -> Iterator[RolloutResult]:
        if self._runner is None:
            return self._requests.results(requests, evaluation=True)

        runner = self._runner
        return (runner.sample_groups(request, evaluation=True) for request in requests)

    def close(self) -> None:
        """Stops the engines and environments."""
        if self._runner is not None:
            self._runner.stop()
        if self._group is not None:
            self._group.stop()
        if self._task.queue is not None:
            self._task.queue.shutdown(force=True)

    def _pass_on(self) -> None:
        """Passes on what has come from other processes."""
        queue = self._task.queue
        assert queue is not None
        for number, row in queue.get_nowait_batch(queue.qsize()):
            if number == self._task.number and self._on_response is not None:
                self._on_response(row)

    def _restore(self) -> None:
        """Brings restarted EnvRunners back."""
        assert self._group is not None
        # A restarted EnvRunner has the first environment again.
        if self._group.probe_unhealthy_env_runners():
            self._send_task()

    def _send_task(self) -> None:
        """Gives every EnvRunner the present task."""
        task = self._task
        if self._runner is not None:
            self._runner.begin(task)
        else:
            assert self._group is not None
            self._group.foreach_env_runner(
                lambda runner: runner.begin(task), local_env_runner=False
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
