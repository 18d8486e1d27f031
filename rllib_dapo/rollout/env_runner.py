"""The EnvRunner for text: prompt seeds in, one group of responses for each out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.debug import update_global_seed_if_necessary
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, WEIGHTS_SEQ_NO
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rllib_dapo.core.types import PromptGroup
from rllib_dapo.envs import TextSpace
from rllib_dapo.models import load_tokenizer, resolve_model
from rllib_dapo.rollout.batch_rollout import BatchRollout
from rllib_dapo.rollout.engine import Engine, Sampling
from rllib_dapo.rollout.engine_placement import name_bundles
from rllib_dapo.rollout.env_stepper import EnvStepper
from rllib_dapo.rollout.episodes import to_episode
from rllib_dapo.rollout.made_up_group import try_made_up_group
from rllib_dapo.rollout.open_rollout import OpenRollout
from rllib_dapo.rollout.progress_watch import stalled
from rllib_dapo.rollout.read_prompts import check_first_prompt, read_prompts
from rllib_dapo.rollout.reported_failures import or_failure
from rllib_dapo.rollout.rollout_loop import RolloutLoop
from rllib_dapo.rollout.rollout_result import RolloutResult, SampledGroup
from rllib_dapo.rollout.runner_environments import RunnerEnvironments
from rllib_dapo.rollout.sampling_seed import EVALUATION_STREAM, TRAINING_STREAM, sampling_seed
from rllib_dapo.rollout.sampling_settings import refuse_unknown_tokens, sampling_of
from rllib_dapo.rollout.tool_calls import tool_call_reader
from rllib_dapo.rollout.user_callbacks import UserCallbacks
from rllib_dapo.rollout.worker_server import start_early
from rllib_dapo.stall_watchdog import StallWatchdog
from rllib_dapo.threads import set_num_threads

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig


class TextEnvRunner(EnvRunner, Checkpointable):
    """Samples a group of responses to each prompt and steps the text environment with them.

    RLlib's own `SingleAgentEnvRunner` steps vectors of environments through connectors, with one
    forward pass per time step. Here a whole response is one action, and the engine batches the
    responses to all prompts by itself.

    Attributes:
        environments: Those of training and those of evaluation.
    """

    def __init__(self, *, config: DAPOConfig, **kwargs: Any) -> None:
        """Builds the environment, the tokenizer and (where this process samples) the engine.

        Args:
            config: The algorithm's configuration.
            **kwargs: RLlib's `worker_index` and others.
        """
        start_early(config, **kwargs)
        super().__init__(config=config, **kwargs)
        self.config: DAPOConfig
        self.worker_index: int = kwargs.get("worker_index") or 0
        self._weights_version = self._next_own_seed = 0
        self._batch_rollout = BatchRollout(partial(self._begin, evaluation=False))

        model = resolve_model(str(config.model_name))
        self.tokenizer = load_tokenizer(model, **config.tokenizer_settings)
        self.env: gym.Env[Any, Any]  # training's first; episodes of several steps use more like it
        self._make_callbacks_and_envs()
        self.module: Any = None  # beside remote EnvRunners, the local one needs no engine
        self.adapter: str | None = None  # of the engine's, what this EnvRunner samples from
        if self.worker_index > 0 or config.num_env_runners == 0:
            refuse_unknown_tokens(config, vocabulary=len(self.tokenizer))
            self._tool_calls = tool_call_reader(self.tokenizer, config.tool_call_parser)
            check_first_prompt(self.environments.stepper(), self.tokenizer, config)
            self.make_module()

    def __repr__(self) -> str:
        """Returns the name in Ray's dashboard and logs, as in `TextEnvRunner 1/2 · vllm · tiny`."""
        count = self.config.num_env_runners
        place = f" {self.worker_index}/{count}" if self.worker_index and count else ""
        named = (self.config.engine, Path(str(self.config.model_name)).name)
        return " · ".join((f"{type(self).__name__}{place}", *named))

    @override(EnvRunner)
    def make_env(self) -> None:
        """Makes the training environment, after closing all earlier ones.

        Evaluation's environment is made when it is first needed, for most runs have none.
        """
        self.environments.close()
        self.env = self.environments.stepper().env

        if self.config.evaluation_interval or self.config.evaluate_before_training:
            self.environments.refuse_overlap()
        self._callbacks.on_environment_created(self, self.environments.env_context(self.config))

    @override(EnvRunner)
    def make_module(self) -> None:
        """Builds the inference-only RLModule, which is the engine."""
        set_num_threads(self.config.num_threads, shared_by=max(1, self.config.num_env_runners))
        name_bundles(self.config, worker_index=self.worker_index)
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module = spec.build()
        self._engine_started = datetime.now(UTC).isoformat(timespec="milliseconds")

    def start_over(self, config: DAPOConfig) -> None:
        """Begins again as a new EnvRunner would, but keeps the engine: it takes long to start.

        The engine needs weights before it samples again.

        Args:
            config: The new configuration. All settings that the engine was made from must be
                unchanged, see `config.actor_reuse.fixed_differences`.
        """
        self._batch_rollout.give_up()
        self.environments.close()
        self.config = config.copy(copy_frozen=False)
        self.metrics = MetricsLogger(stats_cls_lookup=config.stats_cls_lookup, root=False)
        self.num_env_steps_sampled_lifetime = 0
        self._weights_version = self._next_own_seed = 0

        self._seed = None if config.seed is None else config.seed + self.worker_index
        update_global_seed_if_necessary(framework=config.framework_str, seed=self._seed)

        self._make_callbacks_and_envs()
        if self.module is not None:
            self.module[DEFAULT_MODULE_ID].engine.forget_prompts()

    @property
    def engine_facts(self) -> dict[str, Any] | None:
        """Process id of the engine and when it started (UTC); None where there is no engine."""
        if self.module is None:
            return None
        own = {"pid": os.getpid(), "started": self._engine_started}
        return self.module[DEFAULT_MODULE_ID].engine.facts or own

    @override(EnvRunner)
    def assert_healthy(self) -> None:
        """Checks that construction was completed."""
        assert self.env is not None

    @override(EnvRunner)
    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        """Returns observation and action space, under the keys that RLlib asks for."""
        text = TextSpace(1_000_000)  # of an environment that does not say what it observes
        spaces = (
            getattr(self.env, "observation_space", text),
            getattr(self.env, "action_space", text),
        )
        return {
            INPUT_ENV_SPACES: spaces,
            INPUT_ENV_SINGLE_SPACES: spaces,
            DEFAULT_MODULE_ID: spaces,
        }

    def sample_groups(self, seeds: Sequence[int], *, evaluation: bool = False) -> RolloutResult:
        """Samples one group of responses for each prompt seed.

        Evaluation samples here too, on the training EnvRunners: evaluation EnvRunners of RLlib's
        kind would each start an engine of their own.

        Args:
            seeds: Reset seeds of the environment; each names one problem.
            evaluation: Use evaluation's environment and sampling settings instead of training's.

        Returns:
            The groups in the order of `seeds`. From a remote EnvRunner they stay in the object
            store, and the caller gets their summaries and references.

        Raises:
            RuntimeError: If this EnvRunner has no engine.
        """
        self._batch_rollout.give_up()
        rollout = self._begin(evaluation=evaluation)
        # In training the driver watches, which hears of progress between two calls.
        with StallWatchdog(self.config.stall_seconds).watching(
            lambda: rollout.progress, lambda seconds: stalled(repr(self), seconds, seeds)
        ):
            groups = rollout.run(seeds)
        return self._bring_back(rollout, groups, evaluation=evaluation)

    def advance(self, seeds: Sequence[int], *, call: int, **options: Any) -> RolloutResult:
        """Goes on with the rollout of training that is under way, and adds groups to it.

        Args:
            seeds: Reset seeds of further groups.
            call: The caller's number for this call.
            **options: Further arguments of `BatchRollout.advance`.

        Returns:
            The groups that have ended, in the order in which they did.

        Raises:
            RuntimeError: If this EnvRunner has no engine.
        """
        rollout, groups = self._batch_rollout.advance(seeds, **options)
        result = self._bring_back(rollout, groups, evaluation=False)
        under_way, progress = rollout.under_way(), rollout.progress
        return replace(result, under_way=under_way, progress=progress, call=call)

    # By name, for RLlib to send: a function would be pickled anew for each call.
    try_sample_groups = or_failure(sample_groups)
    try_advance = or_failure(advance)

    def _begin(self, *, evaluation: bool) -> OpenRollout:
        """Begins a rollout, which has the engine for itself as long as it lasts."""
        if self.module is None:
            raise RuntimeError(
                f"EnvRunner {self.worker_index} holds no engine: it was built for its spaces only"
            )
        env_stepper = self.environments.stepper(evaluation=evaluation)
        return OpenRollout(
            self._make_loop(env_stepper, evaluation=evaluation),
            env_stepper,
            read=lambda seeds: read_prompts(
                self.tokenizer, env_stepper.prompts(seeds), self.config
            ),
            max_prompt_tokens=self.config.max_prompt_tokens,
            weights_version=self._weights_version,
        )

    def _bring_back(
        self, rollout: OpenRollout, groups: Sequence[PromptGroup], *, evaluation: bool
    ) -> RolloutResult:
        """Counts ended groups, shows them to the user's callbacks, and hands them over."""
        if steps := sum(response.num_turns for group in groups for response in group.responses):
            self.num_env_steps_sampled_lifetime += steps
            self._metrics_num_env_steps_sampled.inc(value=steps)
        if groups:
            self._callbacks.after_sampling(self, groups)

        engine_seconds, scoring_seconds = rollout.take_seconds()
        return RolloutResult(
            groups=[self._hand_over(group, evaluation=evaluation) for group in groups],
            generation_seconds=engine_seconds,
            scoring_seconds=scoring_seconds,
            worker=self.worker_index,
            ended=time.time(),
            logged=self.get_metrics(),
        )

    @override(EnvRunner)
    def sample(self, *, num_episodes: int | None = None, **kwargs: Any) -> list[SingleAgentEpisode]:
        """Samples whole groups as RLlib's episodes, for tools that expect its generic interface.

        Args:
            num_episodes: Smallest number of episodes, rounded up to whole groups. None: one group.
            **kwargs: Ignored: RLlib's time steps and exploration flags have no meaning here.

        Returns:
            One episode per response, of prompts not sampled by this method before.
        """
        count = -(-(num_episodes or 1) // self.config.group_size)
        seeds = range(self._next_own_seed, self._next_own_seed + count)
        self._next_own_seed = seeds.stop

        groups = [sampled.group() for sampled in self.sample_groups(seeds).groups]
        return [to_episode(group, response) for group in groups for response in group.responses]

    def sample_made_up(self, *, prompt_tokens: int) -> SampledGroup | str | None:
        """Samples a little after a prompt of random tokens, to be compared with a Learner.

        Args:
            prompt_tokens: Length of the prompt.

        Returns:
            One group without rewards. One line, if the engine cannot run the model: RLlib would log
            an error and go on. None, where this process has no engine.
        """
        if self.module is None:
            return None
        self._batch_rollout.give_up()
        group = try_made_up_group(
            self.module[DEFAULT_MODULE_ID].engine,
            self.tokenizer,
            self._sampling(evaluation=False),
            self.config,
            prompt_tokens=prompt_tokens,
            weights_version=self._weights_version,
        )
        return group if isinstance(group, str) else self._hand_over(group, evaluation=True)

    @override(EnvRunner)
    def get_metrics(self) -> dict[str, Any]:
        """Returns what callbacks have logged since the last call; DAPO's own are the driver's."""
        return self.metrics.reduce()

    @override(Checkpointable)
    def get_state(
        self, components: Any = None, *, not_components: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Returns the version of the weights; the weights themselves are the Learner's state."""
        return {
            WEIGHTS_SEQ_NO: self._weights_version,
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime,
        }

    def samples_from(self, version: int) -> bool:
        """Whether groups are under way that are sampled from this version of the weights."""
        return version == self._weights_version and self._batch_rollout.is_under_way()

    def take_weights(self, take: Callable[[Engine], None], version: int) -> int:
        """Gives the engine new weights.

        Args:
            take: Hands them to the engine. Where it fails, the engine samples no more.
            version: Version of these weights (RLlib's `weights_seq_no`).

        Returns:
            Version of the weights the engine now holds.
        """
        if self.module is not None:
            if version != self._weights_version and not self.config.max_staleness:
                self._batch_rollout.give_up()
            engine = self.module[DEFAULT_MODULE_ID].engine
            with engine.taking_weights(version):
                take(engine)
            self._weights_version = version
            self._batch_rollout.note_version(version)
        return self._weights_version

    @override(Checkpointable)
    def set_state(self, state: dict[str, Any]) -> None:
        """Restores the lifetime counter.

        RLlib would also send weights this way; here they come through `take_weights`.

        Args:
            state: May hold `num_env_steps_sampled_lifetime`; all else is ignored.
        """
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = state[NUM_ENV_STEPS_SAMPLED_LIFETIME]

    @override(Checkpointable)
    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        """Returns the arguments with which RLlib rebuilds this EnvRunner from a checkpoint."""
        return (), {"config": self.config}

    @override(EnvRunner)
    def stop(self) -> None:
        """Closes environments and engine."""
        self.environments.close()
        if self.module is not None:
            self.module[DEFAULT_MODULE_ID].close()
            self.module = None

    def _make_callbacks_and_envs(self) -> None:
        """Makes what a configuration asks for besides model and engine."""
        self._callbacks = UserCallbacks(self.config)
        self.environments = RunnerEnvironments(
            self.config, worker_index=self.worker_index, num_workers=self.num_workers
        )
        self.make_env()

    def _make_loop(
        self, env_stepper: EnvStepper, *, evaluation: bool, **options: Any
    ) -> RolloutLoop:
        """The loop that samples and scores.

        Args:
            env_stepper: Steps the environments.
            evaluation: Use evaluation's sampling settings.
            **options: Further arguments of `RolloutLoop`.
        """
        stream = EVALUATION_STREAM if evaluation else TRAINING_STREAM
        return RolloutLoop(
            engine=self.module[DEFAULT_MODULE_ID].engine,
            env_stepper=env_stepper,
            tokenizer=self.tokenizer,
            sampling=self._sampling(evaluation=evaluation),
            max_turns=self.config.max_turns,
            skip_special_tokens=self.config.skip_special_tokens,
            tool_calls=self._tool_calls,
            sampling_seed=lambda *request: sampling_seed(
                self.config.seed or 0, stream, self._weights_version, *request
            ),
            **options,
        )

    def _sampling(self, *, evaluation: bool) -> Sampling:
        return sampling_of(self.config, evaluation=evaluation, adapter=self.adapter)

    def _hand_over(self, group: PromptGroup, *, evaluation: bool) -> SampledGroup:
        is_divided = self.config.num_learners > 1 and not evaluation
        return SampledGroup.of(group, stays_here=self.worker_index == 0, cut=is_divided)
