"""Rewards that compare the responses to one prompt, in an EnvRunner."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup
from rllib_dapo.envs import Problem, SingleStepTextEnv, Verdict
from rllib_dapo.metrics.rollout_metrics import verdict_metrics
from rllib_dapo.rollout.env_runner import TextEnvRunner

MakeConfig = Callable[..., DAPOConfig]


class RankEnv(SingleStepTextEnv):
    """A response is worth its rank among the group's; the prompt's seed 3 gives no verdicts."""

    scores_groups = True

    def problem(self, seed: int) -> Problem:
        return Problem(prompt=f"{seed}+0=", answer=str(seed), problem_id=str(seed))

    def score_group(self, problem: Problem, responses: Sequence[str]) -> list[Verdict]:
        if problem.answer == "3":
            raise RuntimeError("no rank")
        return [
            Verdict(
                is_correct=None,
                reward=float(sorted(responses).index(one)),
                metrics={"size": len(responses)},
            )
            for one in responses
        ]


def groups_of(runner: TextEnvRunner, seeds: Sequence[int]) -> list[PromptGroup]:
    return [sampled.group() for sampled in runner.sample_groups(seeds).groups]


def expect_ranks(groups: Sequence[PromptGroup], lost: Sequence[int] = ()) -> None:
    for group in groups:
        texts = [response.text for response in group.responses]
        rewards = [response.reward for response in group.responses]
        if group.seed in lost:
            assert all(map(math.isnan, rewards))
            assert {response.reason for response in group.responses} == {
                "crash: the scorer raised RuntimeError: no rank"
            }
        else:
            assert rewards == [float(sorted(texts).index(text)) for text in texts]


@pytest.mark.parametrize("place", ["here", "process"])
def test_each_group_is_scored_once_it_is_whole_in_its_own_order(
    rollout_config: MakeConfig, place: str
) -> None:
    runner = TextEnvRunner(config=rollout_config(RankEnv, verify_in=place))
    try:
        groups = groups_of(runner, range(6))
        assert [group.seed for group in groups] == list(range(6))
        expect_ranks(groups, lost=[3])
        figures = verdict_metrics([group.summary() for group in groups])
        assert figures["reward_metrics/size"] == 4
        assert figures["missing_crash"] == 4
        assert len({r.reward for group in groups for r in group.responses if r.reward >= 0}) > 1
        expect_ranks(groups_of(runner, [0, 7]))  # the same prompt again, beside another one
    finally:
        runner.stop()


def rank(prompt: str, responses: list[str]) -> list[float]:
    return [float(sorted(responses).index(one)) for one in responses]


def test_a_group_function_of_a_run_file_gets_the_whole_group(
    rollout_config: MakeConfig, tmp_path: Path
) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt": "{n}+0="}}\n' for n in range(3)))
    config: Any = rollout_config(
        "rllib_dapo/RewardFunction-v0", path=str(path), reward={"group": rank}
    )
    runner = TextEnvRunner(config=config)
    try:
        expect_ranks(groups_of(runner, range(3)))
    finally:
        runner.stop()


def test_groups_that_are_given_up_leave_nothing_behind(rollout_config: MakeConfig) -> None:
    runner = TextEnvRunner(config=rollout_config(RankEnv))
    try:
        rollout = runner._begin(evaluation=False)
        rollout.add([0, 1, 2])
        rollout.drop([1])
        stepper = runner.environments.stepper()
        assert len(stepper._groups) == 8
        groups = []
        while not rollout.is_idle:
            groups += rollout.advance()
        expect_ranks(groups)
        assert sorted(group.seed for group in groups) == [0, 2]
        assert stepper._groups == {}
    finally:
        runner.stop()
