"""Where the workers of an engine run that are Ray actors: in bundles of the trial's own group.

A worker that is a process of its EnvRunner's machine needs no place: it computes with what the
EnvRunner was given.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.tune import PlacementGroupFactory

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# vLLM's own name: the bundles of the current placement group in which it makes its workers.
BUNDLE_INDICES = "VLLM_RAY_BUNDLE_INDICES"
LEAST_CPUS = 0.001


def with_engine_bundles(
    request: PlacementGroupFactory, config: DAPOConfig
) -> PlacementGroupFactory:
    """Adds the workers of all engines to what a trial asks for, where they are Ray actors.

    They come last, those of the first EnvRunner first: RLlib counts the bundles before them.

    Args:
        request: What RLlib asks for: the main process, EnvRunners and Learners.
        config: Valid configuration.
    """
    if not config.has_ray_workers:
        return request
    head: list[dict[str, float]] = [{}] if request.head_bundle_is_empty else []
    engines = max(1, config.num_env_runners) * config.num_engine_workers
    return PlacementGroupFactory(
        [*head, *request.bundles, *[worker_bundle(config)] * engines], strategy=request.strategy
    )


def worker_bundle(config: DAPOConfig) -> dict[str, Any]:
    """What one worker asks for: vLLM takes no more than one GPU of a bundle."""
    if config.engine_has_gpus:
        return {"GPU": 1}
    return {"CPU": max(config.num_cpus_per_env_runner, LEAST_CPUS)}  # Ray refuses empty bundles


def name_bundles(config: DAPOConfig, *, worker_index: int) -> None:
    """Tells vLLM which bundles its workers have; without this, all engines would take the first.

    Args:
        config: The algorithm's configuration.
        worker_index: Index of this EnvRunner, from 1 on; 0 for the one in the driver.

    Raises:
        ValueError: If this process runs in a placement group without such bundles.
    """
    group = ray.util.get_current_placement_group() if ray.is_initialized() else None
    if not config.has_ray_workers or group is None:
        return

    count = config.num_engine_workers
    engines = max(1, config.num_env_runners)
    first = len(group.bundle_specs) - count * (engines - max(0, worker_index - 1))
    own = group.bundle_specs[first : first + count] if first > 0 else []
    if not _are_of_workers(own, config):
        raise ValueError(
            f"rollout.executor=ray: the placement group that this EnvRunner runs in has no "
            f"{count} bundles for its engine's workers at its end: take the group that "
            "DAPO.default_resource_request asks for, or set rollout.executor to mp"
        )
    os.environ[BUNDLE_INDICES] = ",".join(map(str, range(first, first + count)))


def _are_of_workers(bundles: Sequence[dict[str, float]], config: DAPOConfig) -> bool:
    asked = worker_bundle(config)
    return len(bundles) == config.num_engine_workers and all(
        {name: bundle.get(name, 0) for name in asked} == asked for bundle in bundles
    )
