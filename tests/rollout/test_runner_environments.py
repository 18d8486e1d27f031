"""The environments of an EnvRunner: those of training and those of evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup
from rllib_dapo.rollout.env_runner import TextEnvRunner

MakeConfig = Callable[..., DAPOConfig]


def groups_of(runner: TextEnvRunner, seeds: range | list[int], **kwargs: Any) -> list[PromptGroup]:
    return [sampled.group() for sampled in runner.sample_groups(seeds, **kwargs).groups]


def tokens_of(groups: list[PromptGroup]) -> list[list[list[int]]]:
    return [[response.token_ids.tolist() for response in group.responses] for group in groups]


def test_evaluation_has_its_own_environment_sampling_and_draws(rollout_config: MakeConfig) -> None:
    config = rollout_config(split="train").evaluation(
        evaluation_config={"env_config": {"template": "{expression} ="}},
        evaluation_samples_per_prompt=4,
        evaluation_top_p=1.0,
    )
    runner = TextEnvRunner(config=config)
    (training,), (evaluation,) = groups_of(runner, [3]), groups_of(runner, [3], evaluation=True)
    assert training.prompt.replace("=", " =") == evaluation.prompt
    assert len(evaluation.responses) == 4
    plain = TextEnvRunner(
        config=rollout_config().evaluation(evaluation_samples_per_prompt=4, evaluation_top_p=1.0)
    )
    assert tokens_of(groups_of(plain, [3])) != tokens_of(groups_of(plain, [3], evaluation=True))


def test_an_evaluation_on_what_is_trained_on_is_refused(
    rollout_config: MakeConfig, tmp_path: Any
) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(f'{{"question": "{n}+1=", "answer": "{n + 1}"}}\n' for n in range(9)))
    config = rollout_config("rllib_dapo/Math-v0", path=str(path), template="{problem}")
    TextEnvRunner(config=config).stop()
    config.evaluation(evaluation_interval=1)
    with pytest.raises(ValueError, match="9 of 9 held-out problems are also trained on"):
        TextEnvRunner(config=config)
