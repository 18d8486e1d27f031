"""CPUs and GPUs of an EnvRunner: where they are not set, they follow from its engine's workers.

With `rollout.colocate` they, and those of a Learner, are shares of the one GPU that both are on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_dapo.config.weight_checks import transfer_way
from rllib_dapo.findings import at_least
from rllib_dapo.rollout.vllm_build import vllm_wants_gpus

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# Arguments of `vllm.LLM` that spread an engine, and what to set instead.
_SPREADING = {
    "tensor_parallel_size": "set rollout.tensor_parallel_size, from which GPUs and placement "
    "follow",
    "pipeline_parallel_size": "set rollout.pipeline_parallel_size, from which GPUs and placement "
    "follow",
    "distributed_executor_backend": "set rollout.executor to mp or ray",
    "worker_extension_cls": "it would take the place of the class through which an engine gets its "
    "weights",
}
_COPIES = (
    "raise env_runners.num_env_runners: each EnvRunner has an engine, and prompts go to all of them"
)


# What Ray is told of a GPU for two. The engine's share is more than half, so that Ray, which packs,
# gives no GPU to two engines, and each Learner the rest of one.
COLOCATED_ENGINE_SHARE, COLOCATED_LEARNER_SHARE = 0.6, 0.4


class EngineResources(AlgorithmConfig):
    """RLlib's CPUs and GPUs of an EnvRunner, and GPUs of a Learner, computed where not set."""

    # What was set; None where nothing was, as in a configuration that was pickled without these.
    _num_cpus_per_env_runner: Any = None
    _num_gpus_per_env_runner: Any = None
    _num_gpus_per_learner: Any = None
    # What a Learner keeps on the device while engines sample, which the algorithm computes at its
    # start; None where they take no turns.
    learner_bytes_at_rest: float | None = None

    @property
    def num_engine_workers(self) -> int:
        """Number of workers of each engine; 1 while search spaces are not resolved."""
        sizes = (
            getattr(self, "tensor_parallel_size", 1),
            getattr(self, "pipeline_parallel_size", 1),
        )
        return sizes[0] * sizes[1] if all(isinstance(size, int) for size in sizes) else 1

    @property
    def has_ray_workers(self) -> bool:
        """Whether the workers of an engine are Ray actors, beside the EnvRunner."""
        return self.num_engine_workers > 1 and getattr(self, "executor", None) == "ray"

    @property
    def engine_has_gpus(self) -> bool:
        """Whether the engine computes on GPUs: as set, or else as the vLLM installed here does."""
        if self._num_gpus_per_env_runner is not None:
            return self._num_gpus_per_env_runner != 0
        return getattr(self, "engine", None) == "vllm" and vllm_wants_gpus()

    @property
    def num_gpus_per_env_runner(self) -> Any:
        """GPUs of an EnvRunner's own bundle: one for each worker, unless these are Ray actors."""
        if self.has_ray_workers or self.samples_elsewhere:
            return 0
        if self._num_gpus_per_env_runner is not None:
            return self._num_gpus_per_env_runner
        if self.takes_turns and self.engine_has_gpus:
            return COLOCATED_ENGINE_SHARE
        return self.num_engine_workers if self.engine_has_gpus else 0

    @num_gpus_per_env_runner.setter
    def num_gpus_per_env_runner(self, value: Any) -> None:
        self._num_gpus_per_env_runner = value

    @property
    def num_gpus_per_learner(self) -> Any:
        """GPUs of a Learner: as set, or the rest of its engine's GPU where they take turns."""
        if self._num_gpus_per_learner is not None:
            return self._num_gpus_per_learner
        return COLOCATED_LEARNER_SHARE if self.takes_turns and self.engine_has_gpus else 0

    @num_gpus_per_learner.setter
    def num_gpus_per_learner(self, value: Any) -> None:
        self._num_gpus_per_learner = value

    @property
    def takes_turns(self) -> bool:
        """Whether engines and Learners share devices, one after the other."""
        return getattr(self, "colocate", False) is True

    @property
    def samples_elsewhere(self) -> bool:
        """Whether the engine is one that trials share, which has CPUs and GPUs of its own."""
        return getattr(self, "shared_engine", False) is True

    @property
    def host_resources(self) -> dict[str, Any]:
        """What the process of a shared engine asks Ray for, beside all trials."""
        has_gpus, given = self.engine_has_gpus, self._num_gpus_per_env_runner
        gpus = self.num_engine_workers if given is None else given
        return {
            "num_cpus": 1 if has_gpus else self.num_engine_workers,
            "num_gpus": gpus if has_gpus else 0,
        }

    @property
    def num_cpus_per_env_runner(self) -> Any:
        """CPUs of an EnvRunner's own bundle: one for each worker in it that computes on CPUs."""
        if self._num_cpus_per_env_runner is not None:
            return self._num_cpus_per_env_runner
        elsewhere = self.has_ray_workers or self.engine_has_gpus or self.samples_elsewhere
        compute_here = not elsewhere
        return self.num_engine_workers if compute_here else 1

    @num_cpus_per_env_runner.setter
    def num_cpus_per_env_runner(self, value: Any) -> None:
        self._num_cpus_per_env_runner = value

    @property
    def engine_settings(self: DAPOConfig) -> dict[str, Any]:
        """What `rollout.make_engine` is told beside the model."""
        from rllib_dapo.config.engine_sharing import host_name

        return {**self.own_engine_settings, "shared_engine": host_name(self)}

    @property
    def own_engine_settings(self: DAPOConfig) -> dict[str, Any]:
        """The same, of an engine that is not shared."""
        way = transfer_way(self)
        return {
            "max_model_len": self.max_prompt_tokens + self.max_response_tokens,
            "max_concurrent_responses": self.max_concurrent_responses,
            "cpu_kv_cache_gib": self.cpu_kv_cache_gib,
            "seed": self.seed or 0,
            "tensor_parallel_size": self.tensor_parallel_size,
            "pipeline_parallel_size": self.pipeline_parallel_size,
            "executor": self.executor,
            "engine_kwargs": self.engine_kwargs,
            "transfer_backend": None if way == "object_store" else way,
            "sleeps": self.takes_turns,
            "lora": self.lora,
            "reserved_bytes": self.learner_bytes_at_rest or 0.0,
        }


def check_engine(config: DAPOConfig) -> Iterator[str]:
    """Findings on how an engine is spread over workers.

    Args:
        config: Configuration whose values are of their kinds.

    Yields:
        One line for each finding.
    """
    sizes = ("tensor_parallel_size", "pipeline_parallel_size")
    too_small = [
        line for name in sizes for line in at_least(f"rollout.{name}", getattr(config, name), 1)
    ]
    yield from too_small
    yield from _check_engine_kwargs(config)
    if too_small or config.num_engine_workers == 1:
        return

    given = " and ".join(
        f"rollout.{name}={getattr(config, name)}" for name in sizes if getattr(config, name) > 1
    )
    if config.engine != "vllm":
        yield (
            f"{given} needs rollout.engine=vllm: the engine {config.engine!r} computes in one "
            "process"
        )
    gpus = config._num_gpus_per_env_runner
    if gpus not in (None, 0, config.num_engine_workers):
        yield (
            f"env_runners.num_gpus_per_env_runner={gpus} does not fit {given}, which "
            f"{'needs' if ' and ' not in given else 'need'} {config.num_engine_workers} GPUs for "
            "each EnvRunner: leave it out, it follows from them"
        )


def _check_engine_kwargs(config: DAPOConfig) -> Iterator[str]:
    """Findings on arguments that would spread the engine past the settings."""
    if config.engine != "vllm":
        return
    for name, value in config.engine_kwargs.items():
        way_out = _COPIES if name.startswith("data_parallel") else _SPREADING.get(name)
        if way_out is not None:
            yield f"rollout.engine_kwargs.{name}={value!r} cannot be given here: {way_out}"
