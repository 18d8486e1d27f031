"""Every layout of EnvRunners and Learners trains, and its engines follow its Learner."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.test_utils import check_train_results_new_api_stack

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.core import PromptGroup, TrainResponse, collate
from rllib_dapo.core.batching import MicroBatchPlan
from rllib_dapo.learner.learner import DAPOTorchLearner
from rllib_dapo.rollout.env_runner import TextEnvRunner

LAYOUTS = [
    pytest.param("vllm", 1, 1, "bfloat16", marks=pytest.mark.slow),
    ("vllm", 0, 0, "float32"),
    pytest.param("transformers", 2, 0, "float32", marks=pytest.mark.slow),
    pytest.param("transformers", 0, 1, "bfloat16", marks=pytest.mark.slow),
    pytest.param("transformers", 1, 2, "float32", marks=pytest.mark.slow),  # groups are cut
]
# bfloat16 has 8 bits of mantissa; two implementations round differently along three layers.
GAP_LIMIT = {"float32": 1e-4, "bfloat16": 0.15}


@pytest.mark.parametrize(("engine", "num_env_runners", "num_learners", "dtype"), LAYOUTS)
def test_a_layout_trains_and_its_engines_follow_its_learner(
    cluster: None,
    small_config: Callable[..., DAPOConfig],
    engine: str,
    num_env_runners: int,
    num_learners: int,
    dtype: str,
) -> None:
    config = small_config(
        engine=engine, num_env_runners=num_env_runners, num_learners=num_learners, dtype=dtype
    ).dynamic_sampling(enabled=False)
    config.evaluation(
        evaluation_interval=2,
        evaluate_before_training=True,
        evaluation_num_prompts=3,
        evaluation_samples_per_prompt=4,
        evaluation_config={"env_config": {"split": "heldout", "heldout_fraction": 0.3}},
    )
    algo = config.build_algo()
    try:
        for iteration in range(1, 3):
            result = check_train_results_new_api_stack(algo.train())
            learner = result["learners"][DEFAULT_MODULE_ID]
            assert learner["gradient_updates"] + learner["skipped_updates"] == 2
            assert learner["num_gradient_updates_lifetime"] == 2 * iteration
            assert result["env_runners"]["groups_accepted"] == 4
            assert result["env_runners"]["num_env_steps_sampled_lifetime"] == 32 * iteration
            assert np.isfinite(result["env_runners"]["episode_return_mean"])
            for version in versions(algo):
                assert version == iteration
        for key in ("evaluation", "evaluation_at_start"):
            assert result[key]["env_runners"]["problems"] == 3
            assert 0 <= result[key]["env_runners"]["avg@4"] <= 1
        assert max_gap_after_an_update(algo) < GAP_LIMIT[dtype]
    finally:
        algo.stop()


def versions(algo: DAPO) -> list[int]:
    """The weights' version that each engine holds."""
    return algo.env_runner_group.foreach_env_runner(
        lambda runner: runner.get_state()["weights_seq_no"]
    )


def max_gap_after_an_update(algo: DAPO) -> float:
    """Largest difference between a token's log-probability in the engine and in the Learner."""

    def sample(runner: TextEnvRunner) -> PromptGroup:
        return runner.sample_groups([1000]).groups[0].group()

    group = algo.env_runner_group.foreach_env_runner(sample)[0]

    def score(learner: DAPOTorchLearner) -> float:
        rows = tuple(
            (
                TrainResponse(
                    group=0,
                    index=i,
                    prompt_tokens=len(group.prompt_ids),
                    response_tokens=len(response.token_ids),
                    loss_tokens=len(response.token_ids),
                    advantage=0.0,
                    reward=0.0,
                ),
            )
            for i, response in enumerate(group.responses)
        )
        plan = MicroBatchPlan(rows=rows, weights=(0.0,) * len(rows))
        batch = collate(plan, {0: group}, pad_token_id=0)
        with torch.no_grad():
            logprobs = learner.module[DEFAULT_MODULE_ID].forward_train(batch)["logprobs"]
        return float((logprobs - batch["sampler_logprobs"]).abs()[batch["mask"]].max())

    return next(iter(algo.learner_group.foreach_learner(score))).get()


def test_an_env_runner_that_cannot_be_made_says_why(
    cluster: None, small_config: Callable[..., DAPOConfig]
) -> None:
    config = small_config(engine="transformers", num_env_runners=1).fault_tolerance(
        restart_failed_env_runners=True
    )
    config.environment(env_config={"max_operands": 9})
    with pytest.raises(Exception, match="max_operands"):
        config.build_algo()
