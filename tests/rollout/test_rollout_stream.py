"""Groups one by one from several EnvRunners, also from such that die, hang back or are lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import ObjectLostError, RayError
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_dapo import DAPOConfig
from rllib_dapo.rollout import rollout_result, rollout_stream
from rllib_dapo.rollout.dynamic_sampler import DynamicSampler
from rllib_dapo.rollout.env_runner import TextEnvRunner
from rllib_dapo.rollout.lost_groups import sample_lost_again
from rllib_dapo.rollout.rollout_result import RolloutResult
from rllib_dapo.rollout.rollout_stream import RolloutStream
from rllib_dapo.stored_group import store_group
from tests.rollout.dispatch import (
    Samples,
    env_runners,
    lone_env_runner,
    register_hanging_env,
    register_mortal_env,
    samples_of,
)

MakeConfig = Callable[..., DAPOConfig]


def stream_over(group: EnvRunnerGroup, **settings: Any) -> RolloutStream:
    defaults = {
        "max_groups_in_flight": 3,
        "max_concurrent_responses": 256,
        "group_size": 4,
        "timeout_seconds": None,
        "stall_seconds": None,
        "may_restart": False,
    }
    return RolloutStream(
        group, **defaults | settings, restore_env_runners=group.probe_unhealthy_env_runners
    )


def seeds_of(results: list[RolloutResult]) -> list[int]:
    return [group.summary.seed for result in results for group in result.groups]


def take_all(stream: RolloutStream, count: int) -> list[RolloutResult]:
    """Takes until so many groups have come."""
    results: list[RolloutResult] = []
    while len(seeds_of(results)) < count:
        results += stream.take()
    return results


# Without a fault


@pytest.fixture(scope="module")
def pair(cluster: None, rollout_config: MakeConfig) -> Iterator[EnvRunnerGroup]:
    """Two EnvRunners that nobody kills."""
    with env_runners(rollout_config().env_runners(num_env_runners=2)) as group:
        yield group


def test_groups_are_those_of_one_env_runner_and_come_with_nothing_left(
    pair: EnvRunnerGroup, expected: Samples
) -> None:
    stream = stream_over(pair)
    assert samples_of(stream.sample(range(8))) == expected
    assert stream.take() == []
    assert not stream.has_lost


def test_seeds_that_are_put_while_others_are_under_way_come_too(
    pair: EnvRunnerGroup, expected: Samples
) -> None:
    stream = stream_over(pair, max_groups_in_flight=1)
    stream.put(range(4))
    results = take_all(stream, 1)
    stream.put(range(4, 8))
    results += take_all(stream, 8 - len(seeds_of(results)))
    assert samples_of(results) == expected


def test_what_was_given_up_never_comes_and_its_prompts_may_be_asked_for_again(
    pair: EnvRunnerGroup, expected: Samples
) -> None:
    stream = stream_over(pair)
    for _ in range(3):
        stream.begin_batch()
        stream.put(range(100, 108))
        stream.take()
        stream.give_up()
        stream.begin_batch()
        assert samples_of(stream.sample(range(8))) == expected
        stream.give_up()


def test_an_env_runner_is_given_twice_the_responses_that_its_engine_samples_at_a_time(
    cluster: None, rollout_config: MakeConfig
) -> None:
    """Whole groups, of four responses here; its second one is begun with one response too many."""
    with env_runners(rollout_config().env_runners(num_env_runners=1)) as group:
        for concurrent, most in ((4, 2), (5, 3), (1, 1)):
            stream = stream_over(
                group, max_groups_in_flight=512, max_concurrent_responses=concurrent
            )
            stream.put(range(8))
            results = stream.take()
            assert len(seeds_of(results)) <= most
            assert sum(len(result.under_way) for result in results) <= most
            stream.give_up()


def test_what_was_dropped_never_comes_unless_it_is_asked_for_again(
    pair: EnvRunnerGroup, expected: Samples
) -> None:
    stream = stream_over(pair)
    stream.put(range(8))
    first = stream.take()
    dropped = [seed for seed in (1, 3, 6, 7) if seed not in seeds_of(first)]
    stream.drop(dropped)
    results = first + take_all(stream, 8 - len(dropped) - len(seeds_of(first)))
    assert stream.take() == []
    assert sorted(seeds_of(results)) == [seed for seed in range(8) if seed not in dropped]

    stream.put(dropped)
    results += take_all(stream, len(dropped))
    assert samples_of(results) == expected
    assert not stream.has_lost


def test_a_group_that_is_dropped_and_asked_for_again_at_once_comes_once(
    pair: EnvRunnerGroup, expected: Samples
) -> None:
    stream = stream_over(pair)
    stream.put(range(8))
    stream.drop([2, 5])
    stream.put([5])
    results = stream.take()
    again = [seed for seed in (0, 4, 7) if seed not in seeds_of(results)]
    stream.drop(again)
    stream.put([2, *again])
    results += take_all(stream, 8 - len(seeds_of(results)))
    assert stream.take() == []
    assert samples_of(results) == expected


def test_an_engine_keeps_nothing_of_groups_that_were_given_up(pair: EnvRunnerGroup) -> None:
    stream = stream_over(pair)
    stream.put(range(6))
    stream.take()
    stream.give_up()
    idle = pair.foreach_env_runner(
        lambda runner: runner.module["default_policy"].engine.is_idle, local_env_runner=False
    )
    assert idle == [True, True]


def test_both_env_runners_are_given_work(pair: EnvRunnerGroup) -> None:
    before = pair.foreach_env_runner(
        lambda runner: runner.num_env_steps_sampled_lifetime, local_env_runner=False
    )
    stream_over(pair, max_groups_in_flight=1).sample(range(16))
    after = pair.foreach_env_runner(
        lambda runner: runner.num_env_steps_sampled_lifetime, local_env_runner=False
    )
    assert all(now > then for now, then in zip(after, before, strict=True))


def test_without_remote_env_runners_the_local_one_samples(
    cluster: None, rollout_config: MakeConfig, expected: Samples
) -> None:
    group = EnvRunnerGroup(config=rollout_config(), local_env_runner=True)
    stream = stream_over(group)
    assert samples_of(stream.sample(range(8))) == expected
    assert stream.take() == []

    stream.begin_batch()
    stream.put(range(3))
    stream.take()
    stream.give_up()
    assert group.local_env_runner.module["default_policy"].engine.is_idle
    stream.begin_batch()
    assert samples_of(stream.sample(range(8))) == expected


# With faults


@pytest.mark.slow
@pytest.mark.parametrize("num_env_runners", [2, 1], ids=["another goes on", "it restarts"])
def test_an_env_runner_that_dies_while_it_samples_loses_no_prompt(
    cluster: None,
    rollout_config: MakeConfig,
    expected: Samples,
    tmp_path: Path,
    num_env_runners: int,
) -> None:
    grave = tmp_path / "grave"
    config = (
        rollout_config(register_mortal_env(), deadly_seed=1, grave=str(grave))
        .env_runners(num_env_runners=num_env_runners)
        .fault_tolerance(restart_failed_env_runners=True)
    )
    with env_runners(config) as group:
        stream = stream_over(group)
        results = stream.sample(range(8))
        assert stream.has_lost
        assert sorted(seeds_of(results)) == list(range(8))
        lost = [result for result in results if not _can_be_fetched(result)]
        assert samples_of([result for result in results if result not in lost]).items() <= (
            expected.items()
        )
    assert grave.exists()


def _stores_small_groups_too(runner: TextEnvRunner) -> None:
    """What goes with its summary cannot be lost."""
    rollout_result.store_group = partial(store_group, small=-1)


def _can_be_fetched(result: RolloutResult) -> bool:
    try:
        samples_of([result])
    except ObjectLostError:
        return False
    return True


@pytest.mark.slow
def test_what_an_env_runner_had_sampled_before_it_died_is_sampled_again(
    cluster: None, rollout_config: MakeConfig, expected: Samples, tmp_path: Path
) -> None:
    """Tokens end with the process that has put them into the object store."""
    config = rollout_config(
        register_mortal_env(), deadly_seed=7, grave=str(tmp_path / "grave")
    ).env_runners(num_env_runners=1)
    config.fault_tolerance(restart_failed_env_runners=True)
    sampler = DynamicSampler(prompts_per_step=8, next_seed=0, dynamic_sampling=False)

    with env_runners(config) as group:
        group.foreach_env_runner(_stores_small_groups_too, local_env_runner=False)
        stream = stream_over(group)
        results = stream.sample(sampler.ask())
        assert stream.has_lost
        groups = {s.summary.seed: s for result in results for s in result.groups}
        sampler.offer(s.summary for s in groups.values())
        with pytest.raises(ObjectLostError):
            samples_of(results)

        sample_lost_again(stream, sampler, groups)
        tokens = {
            seed: [response.token_ids.tolist() for response in group.group().responses]
            for seed, group in groups.items()
        }
        assert tokens == expected
    assert [summary.seed for summary in sampler.accepted] == list(range(8))


@pytest.mark.slow
def test_an_env_runner_that_was_restarted_without_a_word_loses_no_prompt(
    cluster: None, rollout_config: MakeConfig, expected: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Ray is quicker than the next call, no call fails: what is under way is gone."""
    config = rollout_config().env_runners(num_env_runners=1)
    with env_runners(config.fault_tolerance(restart_failed_env_runners=True)) as group:
        stream = stream_over(group)
        stream.put(range(8))
        with monkeypatch.context() as at_once:
            at_once.setattr(rollout_stream, "CALL_SECONDS", 0.0)
            at_once.setattr(rollout_stream, "CALL_SECONDS_PER_ENV_RUNNER", 0.0)
            (begun,) = stream.take()
        assert (begun.groups, sorted(begun.under_way)) == ([], [0, 1, 2])
        group.foreach_env_runner(
            lambda runner: runner._batch_rollout.give_up(), local_env_runner=False
        )
        results = take_all(stream, 8)
        assert stream.has_lost
        assert samples_of(results) == expected


@pytest.mark.slow
@pytest.mark.parametrize("once", [True, False], ids=["until it is started anew", "for ever"])
def test_an_env_runner_that_hangs_is_started_anew_and_where_that_does_not_help_the_run_ends(
    cluster: None, rollout_config: MakeConfig, expected: Samples, tmp_path: Path, *, once: bool
) -> None:
    config = rollout_config(
        register_hanging_env(), deadly_seed=6, grave=str(tmp_path / "grave"), once=once
    ).env_runners(num_env_runners=1)
    with env_runners(config.fault_tolerance(restart_failed_env_runners=True)) as group:
        stream = stream_over(group, stall_seconds=4.0, may_restart=True)
        if once:
            results = stream.sample(range(8))
            assert sorted(seeds_of(results)) == list(range(8))
            assert samples_of(results[-1:]).items() <= expected.items()
            assert stream.has_lost
            return
        with pytest.raises(RuntimeError, match=r"EnvRunner 1 has made no progress for ") as end:
            stream.sample(range(8))
    told = str(end.value)
    assert "with one of the prompts [" in told
    assert "6" in told.partition("prompts [")[2].partition("]")[0]
    assert "after 2 were started anew for that. rollout.stall_seconds=4 " in told
    assert "\n" not in told


@pytest.fixture(scope="module")
def lone_group(
    cluster: None, rollout_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EnvRunnerGroup]:
    """One EnvRunner, never restarted. The first tests leave it alive, the last one kills it."""
    with lone_env_runner(rollout_config, tmp_path_factory.mktemp("lone")) as group:
        yield group


def test_sampling_over_the_time_limit_names_the_setting(lone_group: EnvRunnerGroup) -> None:
    stream = stream_over(lone_group, max_groups_in_flight=1, timeout_seconds=0.0)
    with pytest.raises(
        TimeoutError, match=r"env_runners\.sample_timeout_s=0\.0 s; .*rollout\.max_response_tokens"
    ):
        stream.sample(range(8))
    stream.give_up()


def test_what_raises_on_an_env_runner_ends_sampling_with_its_cause(
    lone_group: EnvRunnerGroup,
) -> None:
    def swap(runner: TextEnvRunner) -> None:
        runner.module, runner.kept = getattr(runner, "kept", None), runner.module

    lone_group.foreach_env_runner(swap, local_env_runner=False)
    stream = stream_over(lone_group)
    with pytest.raises(
        RuntimeError, match=r"sampling failed on EnvRunner 1:(.|\n)*RuntimeError: .*holds no engine"
    ):
        stream.sample([0])
    lone_group.foreach_env_runner(swap, local_env_runner=False)


def test_an_env_runner_that_dies_ends_sampling_where_restarting_is_off(
    lone_group: EnvRunnerGroup,
) -> None:
    with pytest.raises(RayError, match="died"):
        stream_over(lone_group).sample([0, 100])
    assert ray.is_initialized()
