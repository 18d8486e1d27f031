"""The algorithm's loop: prompts, groups, advantages, update, weights."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.fs
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils import force_list
from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.debug import update_global_seed_if_necessary
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
    WEIGHTS_SEQ_NO,
)
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rllib_dapo.checkpoint.learners import (
    begin_saving,
    check_learners,
    restore_learners,
    save_learners,
)
from rllib_dapo.config.actor_reuse import fixed_differences
from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.value_checks import idle_clip_warning
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.metrics import metric_table as names
from rllib_dapo.metrics.evaluation_metrics import evaluation_metrics
from rllib_dapo.metrics.rollout_metrics import rollout_metrics
from rllib_dapo.models import load_tokenizer, resolve_model
from rllib_dapo.planning import plan_scoring, plan_update
from rllib_dapo.ray_internals import construction_errors
from rllib_dapo.rollout.dynamic_sampler import DynamicSampler
from rllib_dapo.rollout.rollout_stream import RolloutResult, RolloutStream, SampledGroup
from rllib_dapo.start_guard import describe_gap
from rllib_dapo.tracking.gauges import RunGauges, trial_names
from rllib_dapo.tracking.recording import recording_folder, write_step
from rllib_dapo.tracking.sample_table import SampleTable

logger = logging.getLogger(__name__)

EVALUATION_AT_START = "evaluation_at_start"
ENGINES = "engines"
ROLLOUT_STATE = "dapo_rollout"
GUARD_GROUPS = 4
CORRECTION_CAP = 2.0


class DAPO(Algorithm):
    """Decoupled Clip and Dynamic sAmpling Policy Optimization (arXiv 2503.14476).

    One training step is Algorithm 1 of the paper: sample groups until enough are informative, shape
    their rewards, take advantages within each group, train on mini-batches, hand the new weights to
    the engines. The driver holds no
    token: it decides on summaries and plans; tokens go from EnvRunner to Learner through the object
        store.
    """

    config: DAPOConfig
    learner_group: LearnerGroup

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> DAPOConfig:
        """The paper's configuration."""
        return DAPOConfig()

    @classmethod
    @override(Algorithm)
    def _should_create_evaluation_env_runners(cls, eval_config: DAPOConfig) -> bool:
        return False  # they would be further engines

    def __repr__(self) -> str:
        """`DAPO trial_00003 · tiny`: what Ray's dashboard and logs call this actor."""
        return f"{type(self).__name__} {trial_names(self).trial} · {Path(str(self.config.model_name)).name}"

    @override(Algorithm)
    def setup(self, config: DAPOConfig) -> None:
        """Builds EnvRunners and Learners and gives the former the latter's weights."""
        self._was_reset = False
        self._gauges = RunGauges()
        self._start_counting()
        warning = idle_clip_warning(self.config)
        if warning:
            logger.warning(warning)
        resolve_model(
            str(self.config.model_name)
        )  # made once here, before every actor looks for it
        self._setup_with_cause(config)
        self._built_config = self.config
        self._make_stream()
        self._sync_weights()

    def _setup_with_cause(self, config: DAPOConfig) -> None:
        """RLlib's set-up, which says nothing but IndexError where every EnvRunner failed in its constructor."""
        try:
            super().setup(config)
        except IndexError as error:
            group = getattr(self, "env_runner_group", None)
            if group is None or group.num_healthy_remote_workers():
                raise
            causes = construction_errors(group)
            raise (causes[0] if causes else error) from None

    def _start_counting(self) -> None:
        """Nothing has been sampled, trained or evaluated yet."""
        self._next_seed = 0
        self._acceptance_rate = 1.0
        self._evaluation_at_start: dict[str, Any] | None = None
        self._is_guarded = self.config.start_gap_limit is None
        self._weights_version = 0
        self._sample_table = SampleTable()

    def _make_stream(self) -> None:
        self._stream = RolloutStream(
            self.env_runner_group,
            max_groups_in_flight=self.config.max_groups_in_flight,
            timeout_seconds=self.config.sample_timeout_s,
            restore_env_runners=lambda: self.restore_env_runners(self.env_runner_group),
        )

    @override(Algorithm)
    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begins again under another configuration, with the engines and their processes that are there.

        What follows is what a new `DAPO` would do: Learners are built anew from the start model,
        EnvRunners take over the settings and make their environments anew, all counters are at
        zero. Tune calls this where trials share actors (`TuneConfig.reuse_actors`), and then
        restores a checkpoint where the trial has one.

        Args:
            new_config: By attribute name, as Tune has it, or a `DAPOConfig`.

        Returns:
            True.

        Raises:
            ValueError: Where settings differ that the engines or the actors were made with; nothing
                is changed. (Where False is returned, Tune leaves the trial to its searcher's count
                of those that run, and a bounded one waits for it without end.)
        """
        new = self.get_default_config().update_from_dict(
            new_config.to_dict() if isinstance(new_config, DAPOConfig) else new_config
        )
        new.algo_class = type(self)
        new.validate()
        new.freeze()
        differences = fixed_differences(self._built_config, new)
        self.config = self._built_config
        if differences:
            raise ValueError(
                f"this trial cannot follow on another in the same actors, which were made with other {differences}: "
                "set reuse_actors=False in tune.TuneConfig"
            )
        self.config = self._built_config = new
        self._start_over()
        return True

    def _start_over(self) -> None:
        """The steps of `Algorithm.__init__` and `setup`, but for making EnvRunners and their engines."""
        config = self.config
        self._was_reset = True
        self._start_counting()
        update_global_seed_if_necessary(config.framework_str, config.seed)
        self.callbacks = [cls() for cls in force_list(config.callbacks_class)]
        self.metrics = MetricsLogger(root=True, stats_cls_lookup=config.stats_cls_lookup)
        self.evaluation_config = config.get_evaluation_config_object()
        self.evaluation_config.validate()
        self.evaluation_config.freeze()
        self.env_runner_group.foreach_env_runner(
            lambda runner: runner.start_over(config), timeout_seconds=config.weight_sync_timeout_s
        )
        self.learner_group.shutdown()
        del self.learner_group  # its memory, before another model is loaded
        spec = config.get_multi_rl_module_spec(spaces=self.spaces, inference_only=False)
        self.learner_group = config.build_learner_group(rl_module_spec=spec)
        make_callback(
            "on_algorithm_init",
            self.callbacks,
            config.callbacks_on_algorithm_init,
            kwargs={"algorithm": self, "metrics_logger": self.metrics},
        )
        self._make_stream()
        self._sync_weights()

    @override(Algorithm)
    def training_step(self) -> None:
        """One iteration of Algorithm 1."""
        started = time.perf_counter()
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            sampler, groups = self._sample()
        seconds = time.perf_counter() - started
        training_data, shaping = plan_update(sampler.accepted, groups, self.config)
        self._log_rollout(sampler, shaping, seconds)
        if training_data is None:
            self._report_no_signal(sampler)
            return
        if self.config.record_groups:
            write_step(
                recording_folder(self._storage, self.logdir),
                self._weights_version,
                [groups[summary.seed].group() for summary in sampler.accepted],
                self.config,
            )
        if not self._is_guarded:
            self._guard([groups[summary.seed] for summary in sampler.accepted])
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(
                training_data=training_data,
                timesteps={
                    NUM_ENV_STEPS_SAMPLED_LIFETIME: self.metrics.peek(
                        (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0
                    )
                },
            )
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self._sync_weights()

    def _sample(self) -> tuple[DynamicSampler, dict[int, SampledGroup]]:
        """Rounds of dynamic sampling until the batch is full; the groups come back by seed."""
        config = self.config
        sampler = DynamicSampler(
            prompts_per_step=config.prompts_per_step,
            next_seed=self._next_seed,
            dynamic_sampling=config.dynamic_sampling_enabled,
            max_rounds=config.max_rounds,
            max_oversampling=config.max_oversampling,
            acceptance_rate=self._acceptance_rate,
            min_verdicts=1 if config.has_critic else 2,
        )
        groups: dict[int, SampledGroup] = {}
        self._rollout_results: list[RolloutResult] = []
        while not sampler.is_done:
            results = self._stream.sample(sampler.next_round())
            sampled = {g.summary.seed: g for result in results for g in result.groups}
            self._check_versions(sampled)
            sampler.offer(g.summary for g in sampled.values())
            groups |= sampled
            self._rollout_results += results
        if sampler.wanted and config.on_shortfall == "raise":
            raise RuntimeError(_shortfall(sampler, config))
        self._next_seed, self._acceptance_rate = sampler.next_seed, sampler.acceptance_rate
        return sampler, groups

    def _check_versions(self, sampled: dict[int, SampledGroup]) -> None:
        """Every response must come from the weights that are about to be trained."""
        stale = sorted(
            seed
            for seed, g in sampled.items()
            if g.summary.weights_version != self._weights_version
        )
        if stale:
            raise RuntimeError(
                f"prompts {stale[:8]} were sampled with other weights than version {self._weights_version}: an engine "
                f"missed an update; raise weight_sync_timeout_s={self.config.weight_sync_timeout_s}"
            )

    def _guard(self, groups: list[SampledGroup]) -> None:
        """Once, before the first update: engine and Learner must give the same probabilities.

        Raises:
            RuntimeError: If they are too far apart and `on_start_gap` is `"raise"`.
        """
        config = self.config
        shards = plan_scoring(groups[:GUARD_GROUPS], config)
        report = ask_learners(
            self.learner_group, lambda learner: learner.measure_start_gap(shards)
        )[0]
        self._is_guarded = True
        if config.start_gap_limit is None or report.mean <= config.start_gap_limit:
            return
        line = describe_gap(
            report,
            config,
            prompt_ids=groups[0].group().prompt_ids.tolist(),
            bos_token_id=load_tokenizer(
                resolve_model(str(config.model_name)), trust_remote_code=config.trust_remote_code
            ).bos_token_id,
        )
        line += f". The limit is importance_sampling.start_gap_limit={config.start_gap_limit}"
        if config.on_start_gap == "raise":
            raise RuntimeError(
                f'{line}; on_start_gap="correct" trains with truncated importance sampling instead'
            )
        logger.warning(line)
        if config.on_start_gap == "correct":
            logger.warning(
                "truncated importance sampling is on from here, with a cap of %s", CORRECTION_CAP
            )
            ask_learners(
                self.learner_group,
                lambda learner: setattr(learner, "importance_cap", CORRECTION_CAP),
            )

    def _sync_weights(self) -> None:
        """Hands the Learners' weights to every engine and makes sure that each has them."""
        answers = ask_learners(
            self.learner_group, lambda learner: (learner.weight_pieces(), learner.weights_version)
        )
        pieces, version = answers[0]
        loaded = self.env_runner_group.foreach_env_runner(
            lambda runner: (
                runner.load_weights(pieces, version),
                runner.worker_index,
                runner.engine_facts,
            ),
            local_env_runner=self.config.num_env_runners == 0,
            timeout_seconds=self.config.weight_sync_timeout_s,
        )
        self._weights_version = version
        self._engines = {str(index): facts for _, index, facts in loaded}
        versions = [version for version, _, _ in loaded]
        if set(versions) - {version}:
            raise RuntimeError(
                f"engines hold other weights than version {version} after a sync: versions {versions}"
            )

    @override(Algorithm)
    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Gives restarted EnvRunners the current weights before they sample again."""
        restored = env_runner_group.probe_unhealthy_env_runners()
        if restored:
            if (
                self._was_reset
            ):  # Ray made them again with the configuration of the first of the trials
                config = self.config
                env_runner_group.foreach_env_runner(
                    lambda runner: runner.start_over(config),
                    remote_worker_ids=restored,
                    local_env_runner=False,
                )
            self._sync_weights()
        return restored or []

    @override(Algorithm)
    def evaluate(self, parallel_train_future: Any = None) -> dict[str, Any]:
        """avg@k and its kin on the evaluation environment, sampled by the training EnvRunners.

        Args:
            parallel_train_future: RLlib's; evaluation is never parallel to training here.

        Returns:
            `{"env_runners": {...}}`; RLlib puts it under `evaluation/`.
        """
        make_callback(
            "on_evaluate_start",
            callbacks_objects=self.callbacks,
            callbacks_functions=self.config.callbacks_on_evaluate_start,
            kwargs={"algorithm": self, "metrics_logger": self.metrics},
        )
        results = self._stream.sample(range(self.config.evaluation_num_prompts), evaluation=True)
        self._sample_table.keep_evaluation(self, results)
        summaries = [group.summary for result in results for group in result.groups]
        evaluation = {ENV_RUNNER_RESULTS: evaluation_metrics(summaries)}
        make_callback(
            "on_evaluate_end",
            callbacks_objects=self.callbacks,
            callbacks_functions=self.config.callbacks_on_evaluate_end,
            kwargs={
                "algorithm": self,
                "metrics_logger": self.metrics,
                "evaluation_metrics": evaluation,
            },
        )
        return evaluation

    @override(Algorithm)
    def step(self) -> dict[str, Any]:
        """RLlib's iteration, with the engines' processes, and the evaluation before training, beside the result."""
        if self.config.evaluate_before_training and self._evaluation_at_start is None:
            self._evaluation_at_start = self.evaluate()
        result = super().step()
        result[ENGINES] = self._engines
        if self._evaluation_at_start is not None:
            result[EVALUATION_AT_START] = self._evaluation_at_start
        return result

    @override(Algorithm)
    def log_result(self, result: dict[str, Any]) -> None:
        """RLlib's callbacks and loggers; then the table of samples, and the gauges of Ray's metrics."""
        super().log_result(result)
        self._sample_table.write(self, self._rollout_results, result)
        self._gauges.publish(self, result)

    def _log_rollout(
        self, sampler: DynamicSampler, shaping: dict[str, float], seconds: float
    ) -> None:
        tokens = sum(n for group in sampler.seen for n in group.response_tokens)
        responses = sum(len(group.rewards) for group in sampler.seen)
        generation = sum(result.generation_seconds for result in self._rollout_results)
        self.metrics.log_dict(
            {
                **rollout_metrics(sampler),
                **shaping,
                names.ROLLOUT_TOKENS_PER_SECOND: tokens / seconds,
                "generation_seconds": generation,
                "scoring_seconds": sum(result.scoring_seconds for result in self._rollout_results),
                WEIGHTS_SEQ_NO: self._weights_version,
            },
            key=ENV_RUNNER_RESULTS,
            window=1,
        )
        for name in (NUM_ENV_STEPS_SAMPLED, NUM_EPISODES):
            self.metrics.log_value((ENV_RUNNER_RESULTS, name), responses, reduce="sum")
        for name in (NUM_ENV_STEPS_SAMPLED_LIFETIME, NUM_EPISODES_LIFETIME):
            self.metrics.log_value(
                (ENV_RUNNER_RESULTS, name), responses, reduce="lifetime_sum", with_throughput=True
            )

    def _report_no_signal(self, sampler: DynamicSampler) -> None:
        logger.warning("no update in this iteration: %s", _shortfall(sampler, self.config))

    @override(Checkpointable)
    def get_state(
        self, components: Any = None, *, not_components: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """RLlib's state, and the place in the stream of prompts."""
        state = super().get_state(components, not_components=not_components, **kwargs)
        state[ROLLOUT_STATE] = {
            "next_seed": self._next_seed,
            "acceptance_rate": self._acceptance_rate,
        }
        return state

    @override(Checkpointable)
    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on with the next prompt, and with engines that hold the restored weights."""
        super().set_state(state)
        if ROLLOUT_STATE in state:
            self._next_seed = state[ROLLOUT_STATE]["next_seed"]
            self._acceptance_rate = state[ROLLOUT_STATE]["acceptance_rate"]

    @override(Checkpointable)
    def save_to_path(
        self,
        path: Any = None,
        *,
        state: Any = None,
        filesystem: pyarrow.fs.FileSystem | None = None,
        **kwargs: Any,
    ) -> str:
        """RLlib's checkpoint, with every Learner's part in it and, written last, the list of all its files.

        Args:
            path: A folder, or the URI of one; a temporary folder if there is none.
            state: RLlib's; not to be given, since every Learner saves its own.
            filesystem: A PyArrow file system, where `path` lies on another than the local one.
            **kwargs: RLlib's.
        """
        if filesystem is not None or "://" in str(path):
            filesystem, target = (
                (filesystem, str(path)) if filesystem else pyarrow.fs.FileSystem.from_uri(str(path))
            )
            with tempfile.TemporaryDirectory() as temporary:
                self.save_to_path(temporary, **kwargs)
                pyarrow.fs.copy_files(temporary, target, destination_filesystem=filesystem)
            return str(path)
        folder = Path(tempfile.mkdtemp() if path is None else path).absolute()
        begin_saving(folder)
        super().save_to_path(folder, state=self.get_state(for_checkpoint=True), **kwargs)
        save_learners(self.learner_group, folder)
        return str(path or folder)

    @override(Algorithm)
    def restore_from_path(
        self,
        path: Any,
        *,
        component: str | None = None,
        filesystem: pyarrow.fs.FileSystem | None = None,
        **kwargs: Any,
    ) -> None:
        """Restores every component and every Learner's part, then gives the engines the Learners' weights.

        Raises:
            ValueError: If the checkpoint is not whole, or was written by other Learners than there
                are.
        """
        if filesystem is not None or "://" in str(path):
            filesystem, source = (
                (filesystem, str(path)) if filesystem else pyarrow.fs.FileSystem.from_uri(str(path))
            )
            with tempfile.TemporaryDirectory() as temporary:
                pyarrow.fs.copy_files(source, temporary, source_filesystem=filesystem)
                self.restore_from_path(temporary, component=component, **kwargs)
            return
        folder = Path(path).absolute()
        if component is None:
            manifest = check_learners(self.learner_group, folder)
            super().restore_from_path(folder, **kwargs)
            restore_learners(self.learner_group, folder, manifest)
        else:
            super().restore_from_path(folder, component=component, **kwargs)
        self._is_guarded = self.config.start_gap_limit is None
        self._sync_weights()


def _shortfall(sampler: DynamicSampler, config: DAPOConfig) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sampler.decisions.items())
    return (
        f"{len(sampler.accepted)} of {config.prompts_per_step} groups were informative after {sampler.rounds} rounds "
        f"({reasons}). Raise dynamic_sampling.max_rounds={config.max_rounds} or training.group_size="
        f"{config.group_size}, or give problems nearer to what the model can do"
    )
