"""Training while EnvRunners sample: nothing is lost or trained twice, and nothing is too old."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.algorithm import DAPO
from rllib_dapo.core.types import PromptGroup
from rllib_dapo.ray_internals import kill_env_runner
from rllib_dapo.tracking.recording import read_recording

Make = Callable[..., DAPOConfig]
PROMPTS = 4  # of a step


@pytest.fixture
def stale_config(small_config: Make) -> Make:
    """Makes a configuration in which all groups are trained on, so seeds tell whether any is lost.

    Args of what it makes: the bound on staleness, and the engine.
    """

    def make(max_staleness: int, *, engine: str = "vllm") -> DAPOConfig:
        config = small_config(engine=engine, num_env_runners=2)
        config.rollout(max_staleness=max_staleness, record_groups=True, stall_seconds=60.0)
        config.env_runners(num_cpus_per_env_runner=0.5)
        config.evaluation(evaluation_num_prompts=4, evaluation_samples_per_prompt=1)
        config.fault_tolerance(restart_failed_env_runners=True)
        return config.dynamic_sampling(enabled=False)

    return make


@contextmanager
def running(algorithm: DAPO) -> Iterator[DAPO]:
    try:
        yield algorithm
    finally:
        algorithm.stop()


def trained_on(algorithm: DAPO) -> dict[int, list[PromptGroup]]:
    """What each step was trained on, by the number of updates before it."""
    return {step.number: step.groups() for step in read_recording(Path(algorithm.logdir))}


def tokens_of(group: PromptGroup) -> list[list[int]]:
    return [response.token_ids.tolist() for response in group.responses]


def versions_of(group: PromptGroup) -> set[int]:
    return {version for response in group.responses for _, version in response.version_starts}


def assert_whole(steps: dict[int, list[PromptGroup]], *, max_staleness: int) -> None:
    """All prompts are trained on once, in their order, on groups that are young enough."""
    seeds = [group.seed for number in sorted(steps) for group in steps[number]]
    assert seeds == list(range(PROMPTS * min(steps), PROMPTS * (max(steps) + 1)))
    for number, groups in steps.items():
        for group in groups:
            assert len(group.responses) == 8
            assert versions_of(group)
            assert all(number - max_staleness <= v <= number for v in versions_of(group))
            assert group.weights_version == min(versions_of(group))


@pytest.mark.slow
@pytest.mark.parametrize("max_staleness", [1, 3])
def test_a_run_is_evaluated_loses_an_env_runner_and_goes_on_from_a_checkpoint(
    stale_config: Make, cluster: None, tmp_path: Path, max_staleness: int
) -> None:
    with running(stale_config(max_staleness).build_algo()) as algorithm:
        results = [algorithm.train() for _ in range(3)]
        algorithm.evaluate()
        results.append(algorithm.train())
        kill_env_runner(algorithm.env_runner_group, 1)
        results += [algorithm.train() for _ in range(3)]
        with algorithm._source.ahead(version=algorithm._weights_version):
            while not algorithm._source.kept():
                time.sleep(0.01)
        checkpoint = algorithm.save_to_path(str(tmp_path / "checkpoint"))
        kept = {group.seed: tokens_of(group) for group in algorithm._source.kept()}
        steps = trained_on(algorithm)

    assert len(steps) == 7
    assert_whole(steps, max_staleness=max_staleness)
    assert any(set.union(*map(versions_of, groups)) != {n} for n, groups in steps.items())
    for result in results:
        figures = result["env_runners"]
        assert 0 <= figures["staleness_mean"] <= figures["staleness_max"] <= max_staleness
        assert "importance_capped_fraction" in result["learners"]["default_policy"]
    assert any(result["env_runners"]["staleness_max"] for result in results)

    with running(DAPO.from_checkpoint(checkpoint)) as algorithm:
        algorithm.train()
        algorithm.train()
        later = trained_on(algorithm)
    assert_whole(later, max_staleness=max_staleness)
    assert [group.seed for group in later[7]] == list(range(PROMPTS * 7, PROMPTS * 8))
    trained = {group.seed: tokens_of(group) for groups in later.values() for group in groups}
    assert {seed: trained[seed] for seed in kept if seed in trained} == {
        seed: tokens for seed, tokens in kept.items() if seed in trained
    }
