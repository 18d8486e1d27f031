"""Requests for whole groups, also to EnvRunners that die while they sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import RayError
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_dapo import DAPOConfig
from rllib_dapo.rollout.rollout_requests import RolloutRequests, split_seeds
from tests.rollout.dispatch import (
    Samples,
    env_runners,
    lone_env_runner,
    register_hanging_env,
    register_mortal_env,
    samples_of,
)

MakeConfig = Callable[..., DAPOConfig]


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


def requests_to(group: EnvRunnerGroup, **settings: Any) -> RolloutRequests:
    defaults = {"max_groups_in_flight": 3, "timeout_seconds": None}
    return RolloutRequests(
        group, **defaults | settings, restore_env_runners=group.probe_unhealthy_env_runners
    )


@pytest.mark.slow
def test_an_env_runner_that_dies_while_it_samples_loses_no_prompt(
    cluster: None, rollout_config: MakeConfig, expected: Samples, tmp_path: Path
) -> None:
    grave = tmp_path / "grave"
    config = (
        rollout_config(register_mortal_env(), deadly_seed=1, grave=str(grave))
        .env_runners(num_env_runners=1)
        .fault_tolerance(restart_failed_env_runners=True)
    )
    with env_runners(config) as group:
        assert samples_of(requests_to(group).sample(range(8))) == expected
    assert grave.exists()


@pytest.fixture(scope="module")
def lone_group(
    cluster: None, rollout_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EnvRunnerGroup]:
    """One EnvRunner, never restarted. The first test leaves it alive, the second one kills it."""
    with lone_env_runner(rollout_config, tmp_path_factory.mktemp("lone")) as group:
        yield group


def test_sampling_over_the_time_limit_names_the_setting(lone_group: EnvRunnerGroup) -> None:
    requests = requests_to(lone_group, max_groups_in_flight=1, timeout_seconds=0.0)
    with pytest.raises(
        TimeoutError, match=r"env_runners\.sample_timeout_s=0\.0 s; .*rollout\.max_response_tokens"
    ):
        requests.sample(range(2))


def test_an_env_runner_that_dies_ends_sampling_where_restarting_is_off(
    lone_group: EnvRunnerGroup,
) -> None:
    with pytest.raises(RayError, match="died"):
        requests_to(lone_group).sample([0, 100])


def test_without_remote_env_runners_the_local_one_samples(
    cluster: None, rollout_config: MakeConfig, expected: Samples
) -> None:
    group = EnvRunnerGroup(config=rollout_config(), local_env_runner=True)
    requests = requests_to(group)
    results = requests.sample(range(8))
    assert [len(result.groups) for result in results] == [2, 3, 3]
    assert samples_of(results) == expected
    assert requests.sample([]) == []


@pytest.mark.slow
@pytest.mark.parametrize("once", [True, False], ids=["until it is started anew", "for ever"])
def test_an_env_runner_that_hangs_ends_itself_and_where_that_does_not_help_sampling_ends(
    cluster: None, rollout_config: MakeConfig, expected: Samples, tmp_path: Path, *, once: bool
) -> None:
    config = rollout_config(
        register_hanging_env(), deadly_seed=6, grave=str(tmp_path / "grave"), once=once
    ).env_runners(num_env_runners=1)
    config.rollout(stall_seconds=3.0).fault_tolerance(restart_failed_env_runners=True)
    with env_runners(config) as group:
        requests = RolloutRequests(
            group,
            max_groups_in_flight=8,
            timeout_seconds=None,
            restore_env_runners=group.probe_unhealthy_env_runners,
        )
        if once:
            assert samples_of(requests.sample(range(8))) == expected
            return
        with pytest.raises(RuntimeError, match="EnvRunners in a row were lost with the prompts"):
            requests.sample(range(8))
