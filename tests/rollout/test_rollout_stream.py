"""Dispatch of prompt seeds, also to EnvRunners that die while they sample."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import ObjectLostError, RayError
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.tune import register_env

from rllib_dapo import DAPOConfig
from rllib_dapo.envs import Problem
from rllib_dapo.envs.arithmetic import ArithmeticEnv
from rllib_dapo.rollout.dynamic_sampler import DynamicSampler
from rllib_dapo.rollout.env_runner import TextEnvRunner
from rllib_dapo.rollout.lost_groups import sample_lost_again
from rllib_dapo.rollout.rollout_result import RolloutResult
from rllib_dapo.rollout.rollout_stream import RolloutStream, split_seeds

MakeConfig = Callable[..., DAPOConfig]
Samples = dict[int, list[list[int]]]


# Requests


@given(
    seeds=st.lists(st.integers(0, 99), min_size=1),
    num_runners=st.integers(1, 9),
    max_groups_in_flight=st.integers(1, 40),
)
def test_requests_hold_every_seed_in_order_within_the_limit_and_keep_all_runners_busy(
    seeds: list[int], num_runners: int, max_groups_in_flight: int
) -> None:
    requests = split_seeds(
        seeds, num_runners=num_runners, max_groups_in_flight=max_groups_in_flight
    )
    assert [seed for request in requests for seed in request] == seeds
    sizes = list(map(len, requests))
    assert all(1 <= size <= max_groups_in_flight for size in sizes)
    assert len(requests) >= min(num_runners, len(seeds))
    assert max(sizes) - min(sizes) <= 1


def test_seeds_are_cut_no_finer_than_needed() -> None:
    assert split_seeds(range(8), num_runners=2, max_groups_in_flight=512) == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
    ]
    assert split_seeds(range(8), num_runners=2, max_groups_in_flight=3) == [
        [0, 1],
        [2, 3, 4],
        [5, 6, 7],
    ]


# Dispatch


@pytest.fixture(scope="module")
def mortal_env() -> str:
    """An environment that kills its process when it is to score a response to `deadly_seed`.

    It does so once: the file `grave` that it leaves behind spares whoever is given that seed next.
    """

    def make(context: Any) -> gym.Env:
        grave, deadly_seed = Path(context["grave"]), context["deadly_seed"]

        # Defined in here, so that it is pickled by value: workers cannot import a test.
        class MortalEnv(ArithmeticEnv):
            def problem(self, seed: int) -> Problem:
                self.seed = seed
                return super().problem(seed)

            def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
                if self.seed == deadly_seed and not grave.exists():
                    grave.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().step(action)

        return MortalEnv({"max_operand": 9})

    register_env("mortal", make)
    return "mortal"


@contextmanager
def env_runners(config: DAPOConfig) -> Iterator[EnvRunnerGroup]:
    group = EnvRunnerGroup(config=config, local_env_runner=False)
    try:
        yield group
    finally:
        group.stop()


def stream_over(group: EnvRunnerGroup, **settings: Any) -> RolloutStream:
    defaults = {"max_groups_in_flight": 3, "timeout_seconds": None}
    return RolloutStream(
        group, **defaults | settings, restore_env_runners=group.probe_unhealthy_env_runners
    )


def samples_of(results: list[RolloutResult]) -> Samples:
    """Tokens by seed; refuses a seed that comes twice."""
    sampled = [group for result in results for group in result.groups]
    samples = {s.summary.seed: [r.token_ids.tolist() for r in s.group().responses] for s in sampled}
    assert len(samples) == len(sampled)
    return samples


@pytest.fixture(scope="module")
def expected(rollout_config: MakeConfig) -> Samples:
    """What an EnvRunner that nobody kills samples for the first eight seeds."""
    return samples_of([TextEnvRunner(config=rollout_config()).sample_groups(range(8))])


@pytest.mark.slow
@pytest.mark.parametrize("num_env_runners", [2, 1], ids=["another goes on", "it restarts"])
def test_an_env_runner_that_dies_while_it_samples_loses_no_prompt(
    cluster: None,
    rollout_config: MakeConfig,
    mortal_env: str,
    expected: Samples,
    tmp_path: Path,
    num_env_runners: int,
) -> None:
    grave = tmp_path / "grave"
    config = (
        rollout_config(mortal_env, deadly_seed=1, grave=str(grave))
        .env_runners(num_env_runners=num_env_runners)
        .fault_tolerance(restart_failed_env_runners=True)
    )
    with env_runners(config) as group:
        assert samples_of(stream_over(group).sample(range(8))) == expected
    assert grave.exists()


@pytest.mark.slow
def test_what_an_env_runner_had_sampled_before_it_died_is_sampled_again(
    cluster: None,
    rollout_config: MakeConfig,
    mortal_env: str,
    expected: Samples,
    tmp_path: Path,
) -> None:
    """Tokens end with the process that has put them into the object store."""
    config = rollout_config(mortal_env, deadly_seed=7, grave=str(tmp_path / "grave"))
    config.env_runners(num_env_runners=1).fault_tolerance(restart_failed_env_runners=True)
    sampler = DynamicSampler(prompts_per_step=8, next_seed=0, dynamic_sampling=False)

    with env_runners(config) as group:
        stream = stream_over(group)
        results = stream.sample(sampler.next_round())
        assert stream.has_lost
        groups = {s.summary.seed: s for result in results for s in result.groups}
        sampler.offer(s.summary for s in groups.values())
        with pytest.raises(ObjectLostError):
            samples_of(results)

        sample_lost_again(stream, sampler, groups, results)
        assert samples_of(results) == expected
    assert [summary.seed for summary in sampler.accepted] == list(range(8))


@pytest.fixture(scope="module")
def lone_group(
    cluster: None,
    rollout_config: MakeConfig,
    mortal_env: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[EnvRunnerGroup]:
    """One EnvRunner, never restarted. The first test leaves it alive, the second one kills it."""
    grave = tmp_path_factory.mktemp("lone") / "grave"
    config = rollout_config(mortal_env, deadly_seed=100, grave=str(grave)).env_runners(
        num_env_runners=1
    )
    with env_runners(config.fault_tolerance(restart_failed_env_runners=False)) as group:
        yield group


def test_sampling_over_the_time_limit_names_the_setting(lone_group: EnvRunnerGroup) -> None:
    stream = stream_over(lone_group, max_groups_in_flight=1, timeout_seconds=0.0)
    with pytest.raises(
        TimeoutError, match=r"env_runners\.sample_timeout_s=0\.0 s; .*rollout\.max_response_tokens"
    ):
        stream.sample(range(2))


def test_an_env_runner_that_dies_ends_sampling_where_restarting_is_off(
    lone_group: EnvRunnerGroup,
) -> None:
    with pytest.raises(RayError, match="died"):
        stream_over(lone_group).sample([0, 100])


def test_without_remote_env_runners_the_local_one_samples(
    cluster: None, rollout_config: MakeConfig, expected: Samples
) -> None:
    group = EnvRunnerGroup(config=rollout_config(), local_env_runner=True)
    stream = stream_over(group)
    results = stream.sample(range(8))
    assert [len(result.groups) for result in results] == [2, 3, 3]
    assert samples_of(results) == expected
    assert stream.sample([]) == []
