"""Where the workers of engines run that are Ray actors: each in bundles of its own engine."""

from __future__ import annotations

import os

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rllib_dapo import DAPOConfig
from rllib_dapo.algorithm import DAPO
from rllib_dapo.rollout.engine_placement import BUNDLE_INDICES, name_bundles


@pytest.fixture(scope="module")
def config() -> DAPOConfig:
    return (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0")
        .language_model("tiny")
        .rollout(tensor_parallel_size=2, executor="ray")
        .resources(num_cpus_for_main_process=0.5)
        .env_runners(num_env_runners=2, num_cpus_per_env_runner=0.25, num_gpus_per_env_runner=0)
        .learners(num_learners=1, num_cpus_per_learner=0.5)
    )


def named(config: DAPOConfig, bundles: list[dict[str, float]]) -> list[str]:
    """What the engines of both EnvRunners are told, in a placement group of these bundles."""

    @ray.remote(num_cpus=0)
    def tell(index: int) -> str:
        os.environ.pop(BUNDLE_INDICES, None)
        name_bundles(config, worker_index=index)
        return os.environ[BUNDLE_INDICES]

    group = placement_group(bundles)
    try:
        ray.get(group.ready())
        place = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
        return ray.get([tell.options(scheduling_strategy=place).remote(index) for index in (1, 2)])
    finally:
        remove_placement_group(group)


def test_each_engine_is_told_its_own_bundles(cluster: None, config: DAPOConfig) -> None:
    """Without that, vLLM would make the workers of all engines in the first bundles."""
    request = DAPO.default_resource_request(config.to_dict())
    assert request.bundles[4:] == [{"CPU": 0.25}] * 4
    assert named(config, request.bundles) == ["4,5", "6,7"]


def test_another_placement_group_is_refused(cluster: None, config: DAPOConfig) -> None:
    with pytest.raises(ValueError, match=r"take the group that DAPO\.default_resource_request"):
        named(config, [{"CPU": 0.5}, {"CPU": 0.75}, {"CPU": 0.75}, {"CPU": 0.5}])


def test_a_process_outside_of_any_group_leaves_the_choice_to_vllm(
    config: DAPOConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(BUNDLE_INDICES, raising=False)
    name_bundles(config, worker_index=1)
    assert BUNDLE_INDICES not in os.environ
