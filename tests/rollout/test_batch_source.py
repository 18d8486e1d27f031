"""Batches from real EnvRunners, with groups that are sampled ahead and without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_dapo import DAPOConfig
from rllib_dapo.rollout.batch_source import BatchSource, SampledBatch
from rllib_dapo.rollout.make_stream import make_stream
from rllib_dapo.rollout.prompt_place import PromptPlace
from rllib_dapo.rollout.rollout_checks import RolloutChecks
from tests.rollout.dispatch import Samples, env_runners, register_dull_env

MakeConfig = Callable[..., DAPOConfig]


@pytest.fixture(scope="module")
def config(rollout_config: MakeConfig) -> DAPOConfig:
    """Batches of two groups, all of which are accepted."""
    config = rollout_config().dynamic_sampling(enabled=False)
    return config.env_runners(num_env_runners=2)


@pytest.fixture(scope="module")
def pair(cluster: None, config: DAPOConfig) -> Iterator[EnvRunnerGroup]:
    with env_runners(config) as group:
        yield group


def source_of(group: EnvRunnerGroup, config: DAPOConfig, *, max_staleness: int) -> BatchSource:
    config = config.copy(copy_frozen=False).rollout(max_staleness=max_staleness)
    return BatchSource(
        make_stream(group, config, lambda: None),
        PromptPlace(config),
        config,
        restore_env_runners=lambda: None,
        was_restarted=lambda: False,
    )


def take_weights(group: EnvRunnerGroup, version: int) -> None:
    """Says that new weights have come; they are the old ones."""
    group.foreach_env_runner(
        lambda runner: runner.take_weights(lambda engine: None, version), local_env_runner=False
    )


def seeds_of(batch: SampledBatch) -> list[int]:
    return [group.seed for group in batch.sampler.accepted]


def wait_until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_batches_follow_one_another_and_hold_what_one_env_runner_samples(
    pair: EnvRunnerGroup, config: DAPOConfig, expected: Samples
) -> None:
    take_weights(pair, 0)
    source = source_of(pair, config, max_staleness=0)
    batches = [source.fill(version=0) for _ in range(3)]
    assert [seeds_of(batch) for batch in batches] == [[0, 1], [2, 3], [4, 5]]
    for batch in batches:
        assert batch.seconds > 0
        for seed, group in batch.groups.items():
            assert [r.token_ids.tolist() for r in group.group().responses] == expected[seed]


@pytest.mark.parametrize("max_staleness", [1, 2])
def test_what_was_sampled_ahead_fills_the_batches_to_come(
    pair: EnvRunnerGroup, config: DAPOConfig, max_staleness: int
) -> None:
    take_weights(pair, 0)
    source = source_of(pair, config, max_staleness=max_staleness)
    assert seeds_of(source.fill(version=0)) == [0, 1]

    wanted = 2 * max_staleness
    with source.ahead(version=0):
        wait_until(lambda: len(source._groups) == wanted)
    assert sorted(source._groups) == list(range(2, 2 + wanted))

    kept = source.kept()
    assert [group.seed for group in kept] == list(range(2, 2 + wanted))
    other = source_of(pair, config, max_staleness=max_staleness)
    other._place.set_state(source._place.get_state())
    other.keep(kept)
    batch = other.fill(version=0)
    assert seeds_of(batch) == [2, 3]
    assert [batch.groups[seed].group() is kept[seed - 2] for seed in (2, 3)] == [True, True]

    take_weights(pair, 1)
    batch = source.fill(version=1)
    assert seeds_of(batch) == [2, 3]
    assert {group.seed for group in source.kept()} >= {group.seed for group in kept[2:]}
    assert {group.summary.weights_version for group in batch.groups.values()} == {0}
    assert source.fill(version=1).sampler.expired == 0


def test_groups_that_are_too_old_are_sampled_again(
    pair: EnvRunnerGroup, config: DAPOConfig
) -> None:
    take_weights(pair, 0)
    source = source_of(pair, config, max_staleness=1)
    source.fill(version=0)
    take_weights(pair, 5)
    batch = source.fill(version=5)
    assert batch.sampler.expired == 2
    assert seeds_of(batch) == [2, 3]
    assert {group.summary.weights_version for group in batch.groups.values()} == {5}


def test_a_batch_that_is_not_full_takes_the_youngest_groups_of_earlier_ones(
    cluster: None, rollout_config: MakeConfig
) -> None:
    config = rollout_config(register_dull_env(), dull_from=4).env_runners(num_env_runners=1)
    config.training(prompts_per_step=2, group_size=16)
    config.dynamic_sampling(max_rounds=1, max_oversampling=1.0, on_shortfall="reuse")
    with env_runners(config) as group:
        source = source_of(group, config, max_staleness=1)
        batches = []
        for version in range(4):
            take_weights(group, version)
            batches.append(source.fill(version=version))
    reused = [[group.seed for group in batch.sampler.reused] for batch in batches]
    assert [seeds_of(batch) for batch in batches[:2]] == [[0, 1], [2, 3]]
    # The second batch was sampled under version 0 or 1, and version 3 trains on nothing before 2.
    young = [g.seed for g in batches[1].sampler.accepted if g.weights_version == 1]
    assert reused[0] == reused[1] == reused[3] == []
    assert reused[2] == sorted(young, reverse=True)
    assert seeds_of(batches[2]) == reused[2]
    assert all(seed in batches[2].groups for seed in reused[2])


def test_what_is_paused_or_started_over_is_asked_for_anew(
    pair: EnvRunnerGroup, config: DAPOConfig, expected: Samples
) -> None:
    take_weights(pair, 0)
    source = source_of(pair, config, max_staleness=1)
    source.fill(version=0)
    source.pause()
    pair.foreach_env_runner(  # as an evaluation does
        lambda runner: runner.sample_groups(range(3), evaluation=True), local_env_runner=False
    )
    assert seeds_of(source.fill(version=0)) == [2, 3]
    source.start_over()
    batch = source.fill(version=0)
    assert seeds_of(batch) == [4, 5]
    for seed, group in batch.groups.items():
        assert [r.token_ids.tolist() for r in group.group().responses] == expected[seed]


class Refusing(RolloutChecks):
    """Refuses whatever comes."""

    def __init__(self, config: DAPOConfig) -> None:
        super().__init__(config)
        self.was_called = Event()

    def check(self, *_: Any, **__: Any) -> None:
        self.was_called.set()
        raise RuntimeError("refused")


def test_what_fails_ahead_is_raised_when_the_block_ends(
    pair: EnvRunnerGroup, config: DAPOConfig
) -> None:
    take_weights(pair, 0)
    source = source_of(pair, config, max_staleness=1)
    source.fill(version=0)
    source._checks = refusing = Refusing(config)
    with pytest.raises(RuntimeError, match="refused"), source.ahead(version=0):
        assert refusing.was_called.wait(60)
    with pytest.raises(ZeroDivisionError), source.ahead(version=0):
        assert refusing.was_called.wait(60) / 0


def test_after_a_batch_that_has_failed_the_same_prompts_are_asked_for_again(
    pair: EnvRunnerGroup, config: DAPOConfig
) -> None:
    take_weights(pair, 0)
    source = source_of(pair, config, max_staleness=0)
    source.fill(version=0)
    source._checks, checks = Refusing(config), source._checks
    with pytest.raises(RuntimeError, match="refused"):
        source.fill(version=0)
    source._checks = checks
    assert seeds_of(source.fill(version=0)) == [2, 3]
