"""From the setting `rollout.engine` to a sampling engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rllib_dapo.models.lora_settings import read_lora_settings
from rllib_dapo.rollout.engine import Engine
from rllib_dapo.rollout.vllm_settings import EngineLayout
from rllib_dapo.rollout.worker_server import start_worker_server


def make_engine(
    kind: str,
    *,
    model: str,
    dtype: str,
    trust_remote_code: bool,
    max_model_len: int,
    max_concurrent_responses: int,
    cpu_kv_cache_gib: float,
    seed: int,
    engine_kwargs: dict[str, Any],
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    executor: str = "mp",
    transfer_backend: str | None = None,
    sleeps: bool = False,
    reserved_bytes: float = 0.0,
    lora: Mapping[str, Any] | None = None,
    adapters: int = 1,
    shared_engine: str | None = None,
) -> Engine:
    """Builds the engine named by the setting `rollout.engine`.

    Args:
        kind: `"vllm"` or `"transformers"`.
        model: A model folder or hub name.
        dtype: `"float32"` or `"bfloat16"`; the transformers engine also takes `"float64"`.
        trust_remote_code: Whether code that comes with the model may run.
        max_model_len: Longest prompt plus longest response, in tokens.
        max_concurrent_responses: Number of responses generated at the same time.
        cpu_kv_cache_gib: Size of vLLM's key-value cache on a machine without a GPU, in GiB.
        seed: Seed of the engine's own random state.
        engine_kwargs: Passed unchanged to `vllm.LLM` (or to transformers' `generate`).
        tensor_parallel_size: Number of workers that share each layer of vLLM's model. With one
            worker in all, it lives in this process.
        pipeline_parallel_size: Number of groups of them that have a share of the layers each.
        executor: `"mp"` for workers that are processes of this machine, `"ray"` for Ray actors.
        transfer_backend: vLLM's name of the way by which weights come to its workers directly; None
            where they come through `Engine.load_weights`.
        sleeps: Whether the engine will be put to sleep, which only vLLM's can be.
        lora: The setting `language_model.lora`: the engine takes adapters of this shape, where it
            can.
        adapters: How many adapters requests ask for at a time.
        shared_engine: Name of the host whose engine is to be used, by others too; None for an
            engine of one's own.
        reserved_bytes: What another process keeps on the same device while this engine is awake.

    Raises:
        ValueError: For any other kind.
        EngineDiedError: If there is no such host.
    """
    if shared_engine is not None:
        from rllib_dapo.rollout.engine_host_actor import join_shared_engine

        return join_shared_engine(shared_engine)

    # Each engine's library is imported only where that engine is used: vLLM takes many seconds.
    if kind == "vllm":
        layout = EngineLayout(
            tensor_parallel_size=tensor_parallel_size,
            pipeline_parallel_size=pipeline_parallel_size,
            executor=executor,
        )
        if layout.num_workers > 1 and executor == "mp":
            start_worker_server(layout.num_workers)

        from rllib_dapo.rollout.vllm_engine import VLLMEngine

        return VLLMEngine(
            model=model,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            max_model_len=max_model_len,
            max_num_seqs=max_concurrent_responses,
            cpu_kv_cache_gib=cpu_kv_cache_gib,
            seed=seed,
            layout=layout,
            engine_kwargs=engine_kwargs,
            transfer_backend=transfer_backend,
            sleeps=sleeps,
            reserved_bytes=reserved_bytes,
            lora=None if lora is None else read_lora_settings(lora),
            adapters=adapters,
        )

    if kind == "transformers":
        from rllib_dapo.rollout.transformers_engine import TransformersEngine

        return TransformersEngine(
            model=model,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            max_num_seqs=max_concurrent_responses,
            generate_kwargs=engine_kwargs,
        )

    raise ValueError(f"rollout.engine={kind!r}: must be 'vllm' or 'transformers'")
