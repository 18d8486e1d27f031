"""vLLM's Ray executor on CPUs: its workers are Ray actors, as on GPUs.

vLLM has each Ray worker ask Ray which accelerator it was given, and refuses a platform that has
none. On CPUs there is nothing to ask. All else is vLLM's own: the queues, the calls, the watching
over workers. So what is tried on CPUs is the code that runs on GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    remove_placement_group,
)
from vllm.v1.executor import ray_executor_v2
from vllm.v1.executor.ray_executor_v2 import RayExecutorV2, RayWorkerProc

from rllib_dapo.rollout.engine_placement import BUNDLE_INDICES, LEAST_CPUS

# What a worker asks for where no trial has reserved room for it: almost nothing, as it computes in
# turns with the other processes of its machine.
SMALL_BUNDLE = {"CPU": LEAST_CPUS}


class CPURayWorker(RayWorkerProc):
    """A worker that has no accelerator."""

    def get_node_and_physical_gpu_ids(self) -> tuple[str, list[int]]:
        """The node of this worker, and no GPUs."""
        return ray.get_runtime_context().get_node_id(), []


class CPURayExecutor(RayExecutorV2):
    """An executor whose workers are Ray actors that compute on CPUs."""

    _own_group: PlacementGroup | None = None

    def _init_executor(self) -> None:
        group = self.parallel_config.placement_group or self._new_group()
        self.parallel_config.placement_group = group
        with _cpu_workers(), _bundles(self.parallel_config.world_size):
            super()._init_executor()

    def _new_group(self) -> PlacementGroup:
        self._own_group = placement_group([SMALL_BUNDLE] * self.parallel_config.world_size)
        ray.get(self._own_group.ready())
        return self._own_group

    def shutdown(self) -> None:
        """Ends the workers, and gives back the room that was made for them."""
        super().shutdown()
        if self._own_group is not None and ray.is_initialized():
            remove_placement_group(self._own_group)
            self._own_group = None

    def _build_runtime_env(self) -> dict[str, Any]:
        runtime_env: dict[str, Any] = super()._build_runtime_env()
        # Ray would give an actor without CPUs of its own one thread.
        runtime_env["env_vars"] |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        return runtime_env

    @staticmethod
    def _get_actor_resource_kwargs() -> dict[str, Any]:
        return {"num_gpus": 0}


@contextmanager
def _cpu_workers() -> Iterator[None]:
    """Has vLLM's executor make workers without accelerators, in the group that it was given."""
    worker, initialize = ray_executor_v2.RayWorkerProc, ray_executor_v2.initialize_ray_cluster
    ray_executor_v2.RayWorkerProc = CPURayWorker
    ray_executor_v2.initialize_ray_cluster = lambda *args, **kwargs: None
    try:
        yield
    finally:
        ray_executor_v2.RayWorkerProc = worker
        ray_executor_v2.initialize_ray_cluster = initialize


@contextmanager
def _bundles(count: int) -> Iterator[None]:
    """Names the workers' bundles, where nobody has named them: vLLM would look for GPUs."""
    if BUNDLE_INDICES in os.environ:
        yield
        return
    os.environ[BUNDLE_INDICES] = ",".join(map(str, range(count)))
    try:
        yield
    finally:
        del os.environ[BUNDLE_INDICES]
