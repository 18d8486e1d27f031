"""Repeats the updates of a recorded run with a real Learner and without a sampler.

Under the settings of the run these are the same updates, bit by bit on the same machine. Under
other settings, such as other clip bounds, they show what those would have done to the same
responses. The weights then drift from the ones that sampled the responses, further with every
step, so later steps are off-policy. `sampler_logprob_gap_mean` measures by how much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Real
from typing import TYPE_CHECKING

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import LEARNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rllib_dapo.envs import TextSpace
from rllib_dapo.model_check.check_model import ModelCheck
from rllib_dapo.planning import plan_update
from rllib_dapo.rollout.rollout_result import SampledGroup
from rllib_dapo.tracking.recording import RecordedStep

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig


def replay(steps: Sequence[RecordedStep], config: DAPOConfig) -> Iterator[dict[str, float]]:
    """Repeats the updates of recorded steps, one after another, beginning with the start model.

    Planning and updating are the functions that training itself calls, which is why a replay under
    the run's own settings is exact.

    Args:
        steps: Recorded training steps, in order.
        config: Configuration to train with. Its Learner runs in this process, however many Learners
            the run had.

    Yields:
        For each step its number as `step`, and every metric of the Learner (see `metrics.METRICS`);
        only the number if no response of the step can be trained on.
    """
    config = config.copy(copy_frozen=False).learners(num_learners=0)
    spaces = {DEFAULT_MODULE_ID: (TextSpace(1), TextSpace(1))}
    spec = config.get_multi_rl_module_spec(spaces=spaces, inference_only=False)
    learners = config.build_learner_group(rl_module_spec=spec)
    metrics = MetricsLogger(root=True)

    sampled = 0
    try:
        # As in the run: whether prompts are shared, and how, is found out at the start.
        config = ModelCheck(config).compare(learners, config)

        for step in steps:
            groups = [SampledGroup(summary=group.summary(), data=group) for group in step.groups()]
            sampled += sum(len(group.summary.rewards) for group in groups)

            accepted = [group.summary for group in groups]
            data, shaping = plan_update(
                accepted, {group.summary.seed: group for group in groups}, config
            )
            if data is None:
                yield {"step": step.number}
                continue

            results = learners.update(
                training_data=data, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: sampled}
            )
            metrics.aggregate(results, key=LEARNER_RESULTS)
            reported = metrics.compile()[LEARNER_RESULTS][DEFAULT_MODULE_ID]
            numbers = {
                name: float(value) for name, value in reported.items() if isinstance(value, Real)
            }
            yield {"step": step.number, **shaping, **numbers}
    finally:
        learners.shutdown()
