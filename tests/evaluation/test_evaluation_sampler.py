"""The responses to a request depend on the request alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.core.types import PromptGroup
from rllib_dapo.evaluation.evaluation_sampler import Environment, EvaluationSampler

SUMS = Environment(env="rllib_dapo/Arithmetic-v0", env_config={"max_operand": 9})
DIFFERENCES = Environment(
    env="rllib_dapo/Arithmetic-v0", env_config={"max_operand": 9, "operations": "-"}
)
FIRST, SECOND = [0, 1], [2, 3, 4]


def _config(model: Path, *, engine: str, num_env_runners: int = 0) -> DAPOConfig:
    return (
        DAPOConfig()
        .environment(SUMS.env, env_config=dict(SUMS.env_config))
        .language_model(
            str(model), dtype="bfloat16" if engine == "vllm" else "float32", num_threads=1
        )
        .rollout(engine=engine, max_prompt_tokens=16, max_response_tokens=6, cpu_kv_cache_gib=0.25)
        .evaluation(evaluation_samples_per_prompt=3, evaluation_top_p=0.9)
        .env_runners(num_env_runners=num_env_runners)
        .learners(num_learners=0)
        .overlong(buffer_tokens=0)
        .debugging(seed=3)
    )


def _plain_values(groups: Sequence[PromptGroup]) -> list[tuple[object, ...]]:
    return [
        (
            group.seed,
            group.prompt,
            response.token_ids.tolist(),
            response.logprobs.tolist(),
            response.is_correct,
        )
        for group in groups
        for response in group.responses
    ]


def test_neither_order_nor_what_came_before_changes_a_request(raw_model: Path) -> None:
    sampler = EvaluationSampler(_config(raw_model, engine="vllm"))
    first, second = (_plain_values(groups) for groups in sampler.sample([FIRST, SECOND]))

    # In another order.
    assert [_plain_values(groups) for groups in sampler.sample([SECOND, FIRST])] == [second, first]

    # After another environment.
    sampler.use(DIFFERENCES)
    (other,) = (_plain_values(groups) for groups in sampler.sample([FIRST]))
    assert all("-" in prompt for _, prompt, *_ in other)
    sampler.use(SUMS)
    assert [_plain_values(groups) for groups in sampler.sample([SECOND])] == [second]
    sampler.close()

    # In a new engine, which has sampled nothing before.
    resumed = EvaluationSampler(_config(raw_model, engine="vllm"))
    assert [_plain_values(groups) for groups in resumed.sample([SECOND])] == [second]
    resumed.close()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_several_env_runners_sample_what_one_process_does(raw_model: Path) -> None:
    requests = [[0, 1], [2, 3], [4, 5], [6]]
    local = EvaluationSampler(_config(raw_model, engine="transformers"))
    expected = {groups[0].seed: _plain_values(groups) for groups in local.sample(requests)}
    local.use(DIFFERENCES)
    differences = {groups[0].seed: _plain_values(groups) for groups in local.sample(requests[:2])}
    local.close()

    remote = EvaluationSampler(_config(raw_model, engine="transformers", num_env_runners=2))
    assert {groups[0].seed: _plain_values(groups) for groups in remote.sample(requests)} == expected
    remote.use(DIFFERENCES)
    assert {
        groups[0].seed: _plain_values(groups) for groups in remote.sample(requests[:2])
    } == differences
    remote.close()
