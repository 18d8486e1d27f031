"""The responses to a request depend on the request alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


@pytest.mark.slow
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


def test_each_response_is_told_as_it_ends_and_what_is_there_is_not_sampled_again(
    raw_model: Path,
) -> None:
    told: list[dict[str, Any]] = []
    sampler = EvaluationSampler(_config(raw_model, engine="transformers"), weights_version=7)
    (whole,) = sampler.sample([FIRST], told.append)
    assert {group.weights_version for group in whole} == {7}
    assert {(row["seed"], row["sample"]) for row in told} == {
        (seed, sample) for seed in FIRST for sample in range(3)
    }

    told.clear()
    sampler.use(SUMS, kept={0: frozenset({0, 2}), 1: frozenset()})
    (rest,) = sampler.sample([FIRST], told.append)
    assert {(row["seed"], row["sample"]) for row in told} == {(0, 1), (1, 0), (1, 1), (1, 2)}
    responses = [response.token_ids.tolist() for group in rest for response in group.responses]
    assert responses == [
        response.token_ids.tolist() for response in (whole[0].responses[1], *whole[1].responses)
    ]
    sampler.close()


def test_the_version_of_the_weights_decides_what_is_drawn(raw_model: Path) -> None:
    drawn = []
    for version in (0, 7):
        config = _config(raw_model, engine="transformers")
        sampler = EvaluationSampler(config, weights_version=version)
        drawn += [_plain_values(groups) for groups in sampler.sample([FIRST])]
        sampler.close()
    assert drawn[0] != drawn[1]


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
    told: list[dict[str, Any]] = []
    assert {
        groups[0].seed: _plain_values(groups) for groups in remote.sample(requests[:2], told.append)
    } == differences
    # Some may come too late to be told, but none is of the earlier environment's requests.
    assert all(row["seed"] < 4 for row in told)
    assert len({(row["seed"], row["sample"]) for row in told}) == len(told)
    remote.close()
