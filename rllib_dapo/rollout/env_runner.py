"""The EnvRunner for text: one prompt in, one group of responses out."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import ray
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils import force_list
from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.debug import update_global_seed_if_necessary
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, WEIGHTS_SEQ_NO
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rllib_dapo.core.types import PromptGroup, Response
from rllib_dapo.envs.datasets import refuse_overlap
from rllib_dapo.envs.math import unwrap
from rllib_dapo.models import load_tokenizer, prompt_token_ids, resolve_model
from rllib_dapo.rollout.engine import Sampling
from rllib_dapo.rollout.env_stepper import Answerer, make_answerer
from rllib_dapo.rollout.episodes import to_episode
from rllib_dapo.rollout.make_environment import make_environment
from rllib_dapo.rollout.rollout_loop import Prompt, RolloutLoop
from rllib_dapo.rollout.rollout_stream import RolloutResult, SampledGroup
from rllib_dapo.threads import set_num_threads

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# Keeps the draws of evaluation apart from those of training under the same run seed.
TRAINING_STREAM, EVALUATION_STREAM = 0, 1


class TextEnvRunner(EnvRunner, Checkpointable):
    """Resets a text environment with a seed, samples a group of responses, steps the environment with each.

    RLlib's own `SingleAgentEnvRunner` steps vectors of environments through connectors, one forward
    pass per time step; here a whole response is one action, and the engine batches all prompts'
    responses by itself.
    """

    def __init__(self, *, config: DAPOConfig, **kwargs: Any) -> None:
        """Builds the environment, the tokenizer and (where this process samples) the engine.

        Args:
            config: The algorithm's configuration.
            **kwargs: RLlib's `worker_index` and others.
        """
        super().__init__(config=config, **kwargs)
        self.worker_index: int = kwargs.get("worker_index") or 0
        self.config: DAPOConfig
        self._callbacks = [cls() for cls in force_list(config.callbacks_class)]
        self._weights_version = 0
        self._next_own_seed = 0
        model = resolve_model(str(config.model_name))
        self.tokenizer = load_tokenizer(model, trust_remote_code=config.trust_remote_code)
        self.env: gym.Env[Any, Any]  # where episodes take several steps there are more like it
        self._answerer: Answerer | None = None
        self._evaluation_answerer: Answerer | None = None
        self.make_env()
        self.module: Any = None
        # With remote EnvRunners, the local one only knows the spaces: an engine there would be a
        # second one.
        if self.worker_index > 0 or config.num_env_runners == 0:
            self.make_module()

    def __repr__(self) -> str:
        """`TextEnvRunner 1/2 · vllm · tiny`: what Ray's dashboard and logs call this actor."""
        count = self.config.num_env_runners
        place = f" {self.worker_index}/{count}" if self.worker_index and count else ""
        return f"{type(self).__name__}{place} · {self.config.engine} · {Path(str(self.config.model_name)).name}"

    @override(EnvRunner)
    def make_env(self) -> None:
        """(Re)creates the training environment from the configuration; evaluation's is made when first needed."""
        self._close_envs()
        self._answerer = self._make_answerer(self.config)
        self.env = self._answerer.env
        if self.config.evaluation_interval or self.config.evaluate_before_training:
            self._refuse_overlap()
        make_callback(
            "on_environment_created",
            callbacks_objects=self._callbacks,
            callbacks_functions=self.config.callbacks_on_environment_created,
            kwargs={
                "env_runner": self,
                "metrics_logger": self.metrics,
                "env": self.env,
                "env_context": self._env_context(self.config),
            },
        )

    @override(EnvRunner)
    def make_module(self) -> None:
        """Builds the inference-only RLModule, which is the engine."""
        set_num_threads(self.config.num_threads, shared_by=max(1, self.config.num_env_runners))
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module = spec.build()
        self._engine_started = datetime.now(UTC).isoformat(timespec="milliseconds")

    def start_over(self, config: DAPOConfig) -> None:
        """Begins as a new EnvRunner would under another configuration, but with the engine that is there.

        The engine needs weights before it is asked again.

        Args:
            config: Of which everything that made the engine is as it was, see
                `renewal.fixed_differences`.
        """
        self.config = config.copy(copy_frozen=False)
        self._callbacks = [cls() for cls in force_list(config.callbacks_class)]
        self.metrics = MetricsLogger(stats_cls_lookup=config.stats_cls_lookup, root=False)
        self.num_env_steps_sampled_lifetime = 0
        self._weights_version = 0
        self._next_own_seed = 0
        self._seed = None if config.seed is None else config.seed + self.worker_index
        update_global_seed_if_necessary(framework=config.framework_str, seed=self._seed)
        self.make_env()
        if self.module is not None:
            self.module[DEFAULT_MODULE_ID].engine.forget_prompts()

    @property
    def engine_facts(self) -> dict[str, Any] | None:
        """In which process the engine runs and since when (UTC); None where there is none."""
        return (
            None if self.module is None else {"pid": os.getpid(), "started": self._engine_started}
        )

    @override(EnvRunner)
    def assert_healthy(self) -> None:
        """Checks that construction got to its end."""
        assert self.env is not None

    @override(EnvRunner)
    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        """Observation and action space, under the keys RLlib asks for."""
        spaces = (self.env.observation_space, self.env.action_space)
        return {
            INPUT_ENV_SPACES: spaces,
            INPUT_ENV_SINGLE_SPACES: spaces,
            DEFAULT_MODULE_ID: spaces,
        }

    def sample_groups(self, seeds: Sequence[int], *, evaluation: bool = False) -> RolloutResult:
        """Samples one group of responses for each prompt seed.

        Args:
            seeds: Reset seeds of the environment; each names one problem.
            evaluation: Use the evaluation's environment and sampling instead of training's.

        Returns:
            The groups in the order of `seeds`. From a remote EnvRunner they stay in the object
            store: the caller gets their summaries and references.
        """
        if self.module is None:
            raise RuntimeError(
                f"EnvRunner {self.worker_index} holds no engine: it was built for its spaces only"
            )
        answerer = self._answerer_of(evaluation)
        prompts = [answerer.env.reset(seed=seed)[0] for seed in seeds]
        prompt_ids = [
            np.asarray(prompt_token_ids(self.tokenizer, prompt), dtype=np.int32)
            for prompt in prompts
        ]
        started = time.perf_counter()
        responses, engine_seconds = self._respond(
            answerer, seeds, prompt_ids, evaluation=evaluation
        )
        waited = time.perf_counter() - started - engine_seconds
        groups = [
            PromptGroup(
                seed=seed,
                prompt=prompt,
                prompt_ids=ids,
                responses=group,
                weights_version=self._weights_version,
            )
            for seed, prompt, ids, group in zip(seeds, prompts, prompt_ids, responses, strict=True)
        ]
        self._after_sampling(groups)
        return RolloutResult(
            groups=[self._hand_over(group) for group in groups],
            generation_seconds=engine_seconds,
            scoring_seconds=waited,
        )

    @override(EnvRunner)
    def sample(self, *, num_episodes: int | None = None, **kwargs: Any) -> list[SingleAgentEpisode]:
        """RLlib's generic interface: whole groups as one-step episodes, for callbacks and tools.

        Args:
            num_episodes: At least so many (rounded up to whole groups); one group by default.
            **kwargs: Ignored; RLlib passes time steps and exploration flags that have no meaning
                here.
        """
        count = -(-(num_episodes or 1) // self.config.group_size)
        seeds = range(self._next_own_seed, self._next_own_seed + count)
        self._next_own_seed = seeds.stop
        groups = [sampled.group() for sampled in self.sample_groups(seeds).groups]
        return [to_episode(group, response) for group in groups for response in group.responses]

    @override(EnvRunner)
    def get_metrics(self) -> dict[str, Any]:
        """What user callbacks logged here; DAPO's own figures are made of the groups' summaries, on the driver."""
        return self.metrics.reduce()

    @override(Checkpointable)
    def get_state(
        self, components: Any = None, *, not_components: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The weights' version; weights themselves live in the Learner."""
        return {
            WEIGHTS_SEQ_NO: self._weights_version,
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime,
        }

    def load_weights(self, pieces: Sequence[ray.ObjectRef], version: int) -> int:
        """Gives the engine new weights, one piece after the other.

        Args:
            pieces: What `DAPOTorchLearner.weight_pieces` put into the object store; fetched as they
                are needed.
            version: Theirs (RLlib's `weights_seq_no`).

        Returns:
            The version that the engine holds now.
        """
        if self.module is not None:
            arrays = (named for piece in pieces for named in ray.get(piece))
            self.module[DEFAULT_MODULE_ID].load_engine_weights(arrays)
            self._weights_version = version
        return self._weights_version

    @override(Checkpointable)
    def set_state(self, state: dict[str, Any]) -> None:
        """Takes the lifetime counter. RLlib would send weights this way; here they come through `load_weights`.

        Args:
            state: May hold `num_env_steps_sampled_lifetime`.
        """
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = state[NUM_ENV_STEPS_SAMPLED_LIFETIME]

    @override(Checkpointable)
    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        """How RLlib rebuilds this EnvRunner from a checkpoint."""
        return (), {"config": self.config}

    @override(EnvRunner)
    def stop(self) -> None:
        """Closes environments and engine."""
        self._close_envs()
        if self.module is not None:
            self.module[DEFAULT_MODULE_ID].close()
            self.module = None

    def _respond(
        self,
        answerer: Answerer,
        seeds: Sequence[int],
        prompt_ids: list[np.ndarray],
        *,
        evaluation: bool,
    ) -> tuple[list[tuple[Response, ...]], float]:
        """Responses to every prompt that is short enough, none to one that is not; and the time in the engine."""
        short = [i for i, ids in enumerate(prompt_ids) if len(ids) <= self.config.max_prompt_tokens]
        stream = EVALUATION_STREAM if evaluation else TRAINING_STREAM
        draw = partial(sampling_seed, self.config.seed or 0, stream, self._weights_version)
        loop = RolloutLoop(
            engine=self.module[DEFAULT_MODULE_ID].engine,
            answerer=answerer,
            tokenizer=self.tokenizer,
            sampling=self._evaluation_sampling() if evaluation else self._training_sampling(),
            max_turns=self.config.max_turns,
            turn_seed=draw,
        )
        prompts = [
            Prompt(seed=seeds[i], token_ids=prompt_ids[i].tolist(), sampling_seed=draw(seeds[i]))
            for i in short
        ]
        responses: list[tuple[Response, ...]] = [() for _ in seeds]
        for i, group in zip(short, loop.run(prompts), strict=True):
            responses[i] = group
        return responses, loop.engine_seconds

    def _hand_over(self, group: PromptGroup) -> SampledGroup:
        return SampledGroup(
            summary=group.summary(), data=ray.put(group) if self.worker_index > 0 else group
        )

    def _after_sampling(self, groups: list[PromptGroup]) -> None:
        """Counts the steps, and builds episodes only if somebody listens."""
        steps = sum(response.num_turns for group in groups for response in group.responses)
        self.num_env_steps_sampled_lifetime += steps
        if steps:
            self._metrics_num_env_steps_sampled.inc(value=steps)
        for name in ("on_episode_end", "on_sample_end"):
            if self._someone_listens(name):
                self._call_back(
                    name, [to_episode(group, r) for group in groups for r in group.responses]
                )

    def _someone_listens(self, name: str) -> bool:
        from ray.rllib.callbacks.callbacks import RLlibCallback

        own = getattr(self.config, f"callbacks_{name}")
        return bool(own) or any(
            getattr(type(cb), name) is not getattr(RLlibCallback, name) for cb in self._callbacks
        )

    def _call_back(self, name: str, episodes: list[SingleAgentEpisode]) -> None:
        common = {"env_runner": self, "metrics_logger": self.metrics}
        calls: list[dict[str, Any]]
        if name == "on_sample_end":
            calls = [{"samples": episodes}]
        else:
            calls = [
                {"episode": e, "env": self.env, "env_index": 0, "rl_module": self.module}
                for e in episodes
            ]
        for call in calls:
            make_callback(
                name,
                callbacks_objects=self._callbacks,
                callbacks_functions=getattr(self.config, f"callbacks_{name}"),
                kwargs=common | call,
            )

    def _training_sampling(self) -> Sampling:
        config = self.config
        return Sampling(
            num_responses=config.group_size,
            max_tokens=config.max_response_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
        )

    def _evaluation_sampling(self) -> Sampling:
        config = self.config
        return Sampling(
            num_responses=config.evaluation_samples_per_prompt,
            max_tokens=config.max_response_tokens,
            temperature=config.evaluation_temperature,
            top_p=config.evaluation_top_p,
        )

    def _answerer_of(self, evaluation: bool) -> Answerer:
        if not evaluation:
            assert self._answerer is not None
            return self._answerer
        if self._evaluation_answerer is None:
            self._evaluation_answerer = self._make_answerer(
                self.config.get_evaluation_config_object()
            )
        return self._evaluation_answerer

    def _refuse_overlap(self) -> None:
        """Looks, where both environments go through lists of problems, whether evaluation asks what is trained on."""
        trained_on, asked = (
            getattr(self._answerer_of(evaluation).env.unwrapped, "problems", None)
            for evaluation in (False, True)
        )
        if isinstance(trained_on, list | tuple) and isinstance(asked, list | tuple):
            refuse_overlap(
                trained_on,
                asked,
                bare=unwrap,
                settings="environment.env_config or evaluation_config's env_config",
            )

    def _close_envs(self) -> None:
        for answerer in (self._answerer, self._evaluation_answerer):
            if answerer is not None:
                answerer.close()
        self._answerer = self._evaluation_answerer = None

    def _make_answerer(self, config: DAPOConfig) -> Answerer:
        return make_answerer(
            lambda made: make_environment(config.env, self._env_context(config, made)),
            num_threads=self.config.num_env_threads,
        )

    def _env_context(self, config: DAPOConfig, made: int = 0) -> EnvContext:
        return EnvContext(
            config.env_config,
            worker_index=self.worker_index,
            vector_index=made,
            num_workers=self.num_workers,
        )


def sampling_seed(
    run_seed: int, stream: int, weights_version: int, prompt_seed: int, *turn: int
) -> int:
    """The engine's seed for one prompt: the same run, weights and prompt give the same draws on any EnvRunner.

    Args:
        run_seed: The run's.
        stream: Training's or evaluation's.
        weights_version: Which weights sample.
        prompt_seed: The prompt's reset seed.
        *turn: Place in the group and turn, from an episode's second turn on.
    """
    sequence = np.random.SeedSequence([run_seed, stream, weights_version, prompt_seed, *turn])
    return int(sequence.generate_state(1, np.uint32)[0]) >> 1
