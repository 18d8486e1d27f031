"""The algorithm's loop: prompts, groups, advantages, update, weights."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)

from rllib_dapo.algorithm_events import call_back
from rllib_dapo.capacity.shared_gpu import with_rest_of_learner
from rllib_dapo.checkpoint.whole_checkpoints import WholeCheckpoints
from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.value_checks import settings_warnings
from rllib_dapo.config.weight_checks import transfer_way
from rllib_dapo.device_turns import DeviceTurns
from rllib_dapo.failed_setup import closed_if_it_fails
from rllib_dapo.metrics.environment_metrics import environment_metrics, environments_of
from rllib_dapo.metrics.evaluation_metrics import evaluation_metrics
from rllib_dapo.metrics.iteration_seconds import SECONDS, IterationClock
from rllib_dapo.metrics.learner_metrics import check_skipped_updates
from rllib_dapo.metrics.rollout_log import (
    check_shortfall,
    describe_shortfall,
    log_rollout,
    logged_figures,
)
from rllib_dapo.model_check.check_model import ModelCheck
from rllib_dapo.models import resolve_model
from rllib_dapo.planning import plan_update
from rllib_dapo.ray_internals import construction_errors_raised
from rllib_dapo.reset import build_anew, following_config, request_or_little, start_over_with
from rllib_dapo.rollout.batch_source import BatchSource, SampledBatch
from rllib_dapo.rollout.engine_placement import with_engine_bundles
from rllib_dapo.rollout.make_stream import make_requests, make_stream
from rllib_dapo.rollout.prompt_place import PromptPlace
from rllib_dapo.rollout.rollout_checks import refuse_without_prompts
from rllib_dapo.rollout.rollout_result import RolloutResult
from rllib_dapo.start_guard import StartGuard, sampled_with
from rllib_dapo.tracking.data_report_file import write_data_report
from rllib_dapo.tracking.gauges import RunGauges, trial_names
from rllib_dapo.tracking.kept_groups import read_kept, write_kept
from rllib_dapo.tracking.model_report_file import write_model_report
from rllib_dapo.tracking.recording import record_step
from rllib_dapo.tracking.sample_table import SampleTable
from rllib_dapo.tracking.timeline import write_timeline
from rllib_dapo.weight_arrival import WeightArrival
from rllib_dapo.weight_transfer.make_way import make_transfer_way

logger = logging.getLogger(__name__)

EVALUATION_AT_START = "evaluation_at_start"
ENGINES = "engines"
ROLLOUT_STATE = "dapo_rollout"


class DAPO(WholeCheckpoints):
    """Decoupled Clip and Dynamic sAmpling Policy Optimization (arXiv 2503.14476).

    One training step is Algorithm 1 of the paper: sample groups until enough are informative, shape
    their rewards, take advantages within each group, train on mini-batches, hand the new weights to
    the engines.

    The driver decides and plans on summaries: lengths, rewards, verdicts. Tokens go from EnvRunner
    to Learner through the object store, and the driver fetches whole groups only to record them,
    to write tables of samples, and to explain a gap at the start. The place in the stream of
    prompts is two values: the next prompt seed, and the acceptance rate that sizes the next round.
    With them a checkpoint resumes a run exactly.
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
        # Each would start an engine of its own. Evaluation samples on the training EnvRunners.
        return False

    @classmethod
    @override(Algorithm)
    def default_resource_request(cls, config: Any) -> Any:
        """A trial's resources; a little where settings are refused, as the trial itself will do."""
        default, request = cls.get_default_config(), super().default_resource_request
        return request_or_little(
            lambda new: with_engine_bundles(request(new), default.update_from_dict(new)), config
        )

    def __repr__(self) -> str:
        """`DAPO trial_00003 · tiny`: what Ray's dashboard and logs call this actor."""
        if not isinstance(self.config, DAPOConfig):  # refused, and Ray wants a name for the error
            return type(self).__name__
        model = Path(str(self.config.model_name)).name
        return f"{type(self).__name__} {trial_names(self).trial} · {model}"

    @override(Algorithm)
    def setup(self, config: DAPOConfig) -> None:
        """Builds EnvRunners and Learners, and gives the EnvRunners the Learners' weights."""
        self._was_reset = False
        self._gauges = RunGauges()
        self._arrival = WeightArrival()
        self._start_counting()

        for warning in settings_warnings(self.config):
            logger.warning(warning)
        # A model that is made on the spot is made once here, before every actor looks for it.
        resolve_model(str(self.config.model_name))
        self.config = with_rest_of_learner(self.config)
        self._model_check = ModelCheck(self.config)
        with closed_if_it_fails(self):
            with construction_errors_raised(self):
                super().setup(config)
            self._built_config = self.config
            self._begin()

    def _start_counting(self) -> None:
        """Nothing has been sampled, trained or evaluated yet."""
        self._weights_version = 0
        self._place = PromptPlace(self.config)
        self._clock = IterationClock()
        self._sample_table = SampleTable()
        self._results: list[RolloutResult] = []
        self.evaluation_at_start: dict[str, Any] | None = None

    def _begin(self) -> None:
        """Tries once what the model can do, and gives the EnvRunners the Learners' weights."""
        self._turns = DeviceTurns(self.learner_group, self.env_runner_group, self.config)
        self._arrival.learn_layouts(self)
        self._turns.to_learners()
        # From here on, with settings that are right for this model.
        self.config = self._model_check.compare(self.learner_group, self.config)
        write_model_report(self._model_check.report, self)
        write_data_report(self)

        group = self.env_runner_group
        restore = partial(self.restore_env_runners, group)
        self._source = BatchSource(
            make_stream(group, self.config, restore),
            self._place,
            self.config,
            restore_env_runners=restore,
            was_restarted=lambda: bool(self._arrival.restarted(self)),
        )
        self._requests = make_requests(group, self.config, restore)
        refuse_without_prompts(self.env_runner_group, self.config)
        self._weight_transfer = make_transfer_way(
            transfer_way(self.config), self.learner_group, self.env_runner_group, self.config
        )
        self._sync_weights()
        self._start_guard = StartGuard(self.config)
        self._start_guard.probe(self.learner_group, self.env_runner_group, self._turns.to_learners)
        self._turns.end_with(self._sync_weights)

    @override(Algorithm)
    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begins again under another configuration, with the same EnvRunners and engines.

        The run that follows is the one a new `DAPO` would make: Learners are built anew from the
        start model, EnvRunners take over the settings and make their environments anew, all
        counters are at zero. Tune calls this where trials share actors (`TuneConfig.reuse_actors`),
        and then restores a checkpoint where the trial has one.

        Args:
            new_config: Settings by attribute name, as Tune passes them, or a `DAPOConfig`.

        Returns:
            True. (Where it is False, Tune counts the trial as running for its searcher, and a
            bounded searcher waits for it without end.)

        Raises:
            ValueError: If settings differ that the engines or the actors were made with. Nothing
                has been changed then.
        """
        # Where the settings are refused, what Tune has put into `self.config` stays: a plain dict,
        # with which Tune describes the failed trial.
        self.config = self._built_config = following_config(
            new_config, self._built_config, algo_class=type(self)
        )

        self._was_reset = True
        self._start_counting()
        build_anew(self)

        self._begin()
        return True

    @override(Algorithm)
    def training_step(self) -> None:
        """One iteration of the paper's Algorithm 1, whose line numbers the comments give."""
        # Lines 2 to 8: sample groups of responses with the old policy, which is what the engines
        # hold, and score them, until enough of them are informative.
        with self._clock.measure("sampling"):
            batch = self._sample()
        sampler, groups = batch.sampler, batch.groups

        # Line 9: shape the rewards (Eq. 13), take advantages within each group (Eq. 9), and plan
        # which Learner trains on what. All of it follows from the groups' summaries.
        training_data, shaping = plan_update(sampler.accepted, groups, self.config)
        log_rollout(
            self.metrics,
            batch,
            shaping=shaping,
            num_engines=max(1, self.config.num_env_runners),
            weights_version=self._weights_version,
            name_of=environments_of(self.config),
        )
        if training_data is None:
            shortfall = describe_shortfall(sampler, self.config)
            logger.warning("no update in this iteration: %s", shortfall)
            return

        accepted = [groups[summary.seed] for summary in sampler.accepted]
        if self.config.record_groups:
            record_step(self, accepted, number=self._weights_version)

        # Engines must hold the Learners' weights, and at times both must agree on the samples.
        version = self._weights_version
        fresh = sampled_with(version, accepted)
        looks = self._start_guard.is_time(self.learner_group, version=version) and bool(fresh)
        self._arrival.check(self, version=version, thorough=looks)
        with self._clock.measure("update"):
            self._turns.to_learners()
        if looks:
            self._start_guard.check(self.learner_group, fresh, version=version)

        # Lines 10 and 11: several updates of the policy by the objective (Eq. 8), one optimizer
        # step for each mini-batch. The next batch is sampled meanwhile, where staleness allows it.
        with self._clock.measure("update"), self._source.ahead(version=version):
            results = self.learner_group.update(
                training_data=training_data,
                timesteps={
                    NUM_ENV_STEPS_SAMPLED_LIFETIME: self.metrics.peek(
                        (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0
                    )
                },
            )
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        check_skipped_updates(self.metrics, self.config)

        # Line 3 of the next iteration: the new policy becomes the old one.
        with self._clock.measure("weight_sync"):
            self._sync_weights()

    def _sample(self) -> SampledBatch:
        """Samples groups until the batch is full.

        Raises:
            RuntimeError: As `BatchSource.fill` and `check_shortfall` say.
        """
        self._turns.end_with(self._sync_weights)
        batch = self._source.fill(version=self._weights_version)
        check_shortfall(batch.sampler, self.config)
        self._sampled = [batch.groups[summary.seed] for summary in batch.sampler.seen]
        self._results = batch.results
        return batch

    def _sync_weights(self) -> None:
        """Hands the Learners' weights to every engine and makes sure that each has them."""
        with self._turns.handing_over():
            transfer = self._weight_transfer.transfer()
            self._weights_version = transfer.version
            self.engines = transfer.engines
            transfer.check_arrival()
            self._arrival.check(self, version=self._weights_version)

    @override(Algorithm)
    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Gives restarted EnvRunners the current weights before they sample again."""
        restored = env_runner_group.probe_unhealthy_env_runners()
        restored += self._arrival.restarted(self, besides=restored)
        if not restored:
            self._turns.end_with(self._sync_weights)
            return []

        # After a reset, Ray has made them with the configuration of the first of the trials.
        if self._was_reset:
            start_over_with(self.config, env_runner_group, restored)
        self._sync_weights()
        return restored

    @override(Algorithm)
    def evaluate(self, parallel_train_future: Any = None) -> dict[str, Any]:
        """Evaluates on the evaluation environment, sampled by the training EnvRunners.

        Args:
            parallel_train_future: RLlib's; evaluation is never parallel to training here.

        Returns:
            `{"env_runners": {...}}` with avg@k, pass@k and maj@k; RLlib puts it under
            `evaluation/`.
        """
        call_back(self, "on_evaluate_start")
        self._source.pause()
        self.restore_env_runners(self.env_runner_group)
        with self._clock.measure("evaluation"):
            prompts = range(self.config.evaluation_num_prompts)
            results = self._requests.sample(prompts, evaluation=True)
        groups = [group for result in results for group in result.groups]
        self._sample_table.keep_evaluation(self, groups)
        summaries = [group.summary for group in groups]
        name_of = environments_of(self.config.get_evaluation_config_object() or self.config)
        evaluation = {
            ENV_RUNNER_RESULTS: evaluation_metrics(summaries)
            | environment_metrics(summaries, name_of)
            | logged_figures(results)
        }

        call_back(self, "on_evaluate_end", evaluation_metrics=evaluation)
        return evaluation

    @override(Algorithm)
    def step(self) -> dict[str, Any]:
        """RLlib's iteration; its result also has the engines and the evaluation before training."""
        self._clock = IterationClock()
        if self.config.evaluate_before_training and self.evaluation_at_start is None:
            self.evaluation_at_start = self.evaluate()

        result = super().step()
        result |= {SECONDS: self._clock.seconds, ENGINES: self.engines}
        if self.evaluation_at_start is not None:
            result[EVALUATION_AT_START] = self.evaluation_at_start
        return result

    @property
    def iteration_spans(self) -> list[tuple[str, float, float]]:
        """What the driver waited for in this iteration, see `IterationClock`."""
        return self._clock.spans

    @override(Algorithm)
    def log_result(self, result: dict[str, Any]) -> None:
        """RLlib's callbacks and loggers, then the table of samples, then Ray's metrics."""
        super().log_result(result)

        # Not an RLlib callback of ours: a user's own callbacks would push it out.
        self._sample_table.write(self, self._sampled, result)
        write_timeline(self, self._results, result)
        self._gauges.publish(self, result)

    @override(Checkpointable)
    def get_state(
        self, components: Any = None, *, not_components: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """RLlib's state, the place in the stream of prompts, and what the guard has found."""
        state = super().get_state(components, not_components=not_components, **kwargs)
        state[ROLLOUT_STATE] = {
            **self._place.get_state(),
            "start_guard": self._start_guard.get_state(),
        }
        return state

    @override(Checkpointable)
    def set_state(self, state: dict[str, Any]) -> None:
        """RLlib's state, and what `get_state` adds where the state has it."""
        super().set_state(state)
        if rollout := state.get(ROLLOUT_STATE):
            self._place.set_state(rollout)
            self._source.start_over()
            if "start_guard" in rollout:
                self._start_guard.set_state(rollout["start_guard"], self.learner_group)

    @override(WholeCheckpoints)
    def _save_beside(self, folder: Path) -> None:
        write_kept(folder, self._source.kept(), number=self._weights_version)

    @override(WholeCheckpoints)
    def _restore_beside(self, folder: Path) -> None:
        self._source.keep(read_kept(folder))

    @override(WholeCheckpoints)
    def restore_from_path(self, path: Any, **kwargs: Any) -> None:
        """Restores a checkpoint, then gives the engines the Learners' weights.

        Args:
            path: Folder or its URI.
            **kwargs: See `WholeCheckpoints.restore_from_path`; so are the errors.
        """
        self._turns.to_learners()
        super().restore_from_path(path, **kwargs)
        self._sync_weights()


tune.register_trainable("DAPO", DAPO, warn=False)
