"""The vLLM engine: sampling with `vllm.LLM`, in this process or over several workers."""

from __future__ import annotations

import gc
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import count
from typing import Any

from torch import Tensor

from rllib_dapo.models.lora_settings import LoraSettings
from rllib_dapo.rollout.adapter import Adapter
from rllib_dapo.rollout.engine import (
    Engine,
    EngineDiedError,
    EnginePart,
    FinishedResponse,
    Request,
)
from rllib_dapo.rollout.stop_strings import cut_at_stop, plain_decode
from rllib_dapo.rollout.vllm_environment import vllm_environment
from rllib_dapo.rollout.vllm_settings import (
    EngineLayout,
    cpu_arguments,
    layout_arguments,
    model_arguments,
    turn_arguments,
)
from rllib_dapo.rollout.vllm_weights import hand_over
from rllib_dapo.weight_checksums import BlockPart, WeightBlock

os.environ.update(vllm_environment())

from vllm import LLM
from vllm.platforms import current_platform

from rllib_dapo.rollout.vllm_adapters import VLLMAdapters, start_with_adapters
from rllib_dapo.rollout.vllm_requests import add_responses, not_begun, to_completion
from rllib_dapo.rollout.vllm_start import start_vllm
from rllib_dapo.rollout.vllm_transfer import (
    TransferReceiver,
    ask_workers,
    open_transfer,
    receive_transfer,
)

WORKER_EXTENSION = f"{TransferReceiver.__module__}.{TransferReceiver.__qualname__}"


class VLLMEngine(Engine):
    """Samples with `vllm.LLM`, one forward pass per step."""

    def __init__(
        self,
        *,
        model: str,
        dtype: str,
        trust_remote_code: bool,
        max_model_len: int,
        max_num_seqs: int,
        cpu_kv_cache_gib: float,
        seed: int,
        layout: EngineLayout,
        engine_kwargs: dict[str, Any],
        transfer_backend: str | None = None,
        sleeps: bool = False,
        reserved_bytes: float = 0.0,
        lora: LoraSettings | None = None,
        adapters: int = 1,
    ) -> None:
        """Loads the model; see `rollout.make_engine` for the arguments."""
        is_cpu = current_platform.is_cpu()
        settings = {
            **model_arguments(
                model=model,
                dtype=dtype,
                trust_remote_code=trust_remote_code,
                max_model_len=max_model_len,
                max_num_seqs=max_num_seqs,
                seed=seed,
            ),
            **layout_arguments(layout, ray_executor=_ray_executor(layout, is_cpu=is_cpu)),
            "worker_extension_cls": WORKER_EXTENSION,
        }
        if is_cpu:  # each worker has its share of the cache
            share = cpu_kv_cache_gib / layout.num_workers
            settings |= cpu_arguments(max_model_len=max_model_len, cpu_kv_cache_gib=share)
        elif sleeps:
            settings |= turn_arguments(
                engine_kwargs,
                device_bytes=current_platform.get_device_total_memory(),
                reserved_bytes=reserved_bytes,
            )

        if transfer_backend is not None:
            settings["weight_transfer_config"] = {"backend": transfer_backend}

        self._num_workers = layout.num_workers
        self._asleep: set[EnginePart] = set()
        self._adapters: VLLMAdapters | None = None
        start = partial(start_vllm, num_workers=layout.num_workers)
        self._llm: LLM | None
        if lora is None:
            self._llm = start(settings | engine_kwargs)
        else:
            self._llm, self._adapters = start_with_adapters(
                start, settings | engine_kwargs, lora, adapters=adapters
            )
        if is_cpu and layout.pipeline_parallel_size > 1:
            self.llm.collective_rpc("make_pipeline_buffers")
        self._request_ids, self._salts = count(), count(1)
        self._cache_salt: str | None = None
        # vLLM's request id -> our request and place of the response in it.
        self._pending: dict[str, tuple[Request, int]] = {}

    @property
    def llm(self) -> LLM:
        """The `vllm.LLM` itself.

        Raises:
            RuntimeError: If the engine was closed.
        """
        if self._llm is None:
            raise RuntimeError("this vLLM engine was closed")
        return self._llm

    def add(self, request: Request) -> None:
        """See `Engine.add`: vLLM batches all requests continuously.

        Every response is a vLLM request of its own. vLLM splits a request for several responses in
        the same way, but then returns them all together; here each is returned as soon as it ends.
        They share the prompt's keys and values through the prefix cache.
        """
        self._refuse_asleep("weights", "kv_cache")
        self.refuse_half_weights()
        self._ask_for(request, request.wanted)

    def _ask_for(self, request: Request, wanted: Iterable[int]) -> None:
        adapter = self._held_adapters.request(name) if (name := request.sampling.adapter) else None
        places = {str(next(self._request_ids)): index for index in wanted}
        self._pending |= {request_id: (request, index) for request_id, index in places.items()}
        add_responses(
            self.llm.llm_engine,
            request.prompt_ids,
            request.sampling,
            {request_id: request.seed + index for request_id, index in places.items()},
            adapter,
            self._cache_salt,
        )

    def step(self) -> list[FinishedResponse]:
        """See `Engine.step`: one forward pass."""
        self._refuse_asleep("weights", "kv_cache")
        self.refuse_half_weights()
        finished = []
        with self._deaths_told():
            outputs = self.llm.llm_engine.step()
        self.steps += 1

        for output in outputs:
            request, index = self._pending.pop(output.request_id)
            completion = cut_at_stop(
                to_completion(output.outputs[0]),
                output.outputs[0].stop_reason,
                request.sampling.options,
                self._decode,
            )
            finished.append(FinishedResponse(key=request.key, index=index, completion=completion))
        return finished

    def _decode(self, token_ids: Sequence[int]) -> str:
        return plain_decode(self.llm.get_tokenizer())(token_ids)

    @property
    def is_idle(self) -> bool:
        """See `Engine.is_idle`."""
        return not self._pending

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """See `Engine.load_weights`: in place; then the old weights' prefix cache is dropped."""
        self._refuse_asleep("weights")
        with self._deaths_told():
            _refuse_lacking(hand_over(self.llm, weights, num_workers=self._num_workers))
        self._leave_cache()

    def _leave_cache(self) -> None:
        """Nothing that begins from here on uses what was computed under the old weights."""
        if self.is_idle:
            self.llm.reset_prefix_cache()
            return
        # vLLM resets no cache that responses under way are using.
        self._cache_salt = str(next(self._salts))
        engine = self.llm.llm_engine
        waiting = not_begun(engine)
        engine.abort_request(waiting)
        asked: dict[int, tuple[Request, list[int]]] = {}
        for request_id in waiting:
            request, index = self._pending.pop(request_id)
            asked.setdefault(request.key, (request, []))[1].append(index)
        for request, wanted in asked.values():
            self._ask_for(request, wanted)

    def note_version(self, version: int) -> None:
        """See `Engine.note_version`: vLLM then names it for each token."""
        self.llm.llm_engine.set_weight_version(str(version))

    @property
    def takes_adapters(self) -> bool:
        """See `Engine.takes_adapters`."""
        return self._adapters is not None

    @property
    def _held_adapters(self) -> VLLMAdapters:
        if self._adapters is None:
            raise RuntimeError("this vLLM engine was started without room for adapters")
        return self._adapters

    def load_adapter(self, adapter: Adapter) -> None:
        """See `Engine.load_adapter`."""
        self._refuse_asleep("weights")
        with self._deaths_told():
            self._held_adapters.load(self.llm, adapter)

    def drop_adapter(self, name: str) -> None:
        """See `Engine.drop_adapter`."""
        with self._deaths_told():
            self._held_adapters.drop(self.llm, name)

    def adapter_checksums(self, name: str, blocks: Sequence[WeightBlock]) -> list[BlockPart]:
        """See `Engine.adapter_checksums`: each worker answers for what it multiplies with."""
        self._refuse_asleep("weights")
        return self._held_adapters.checksums(self.llm, name, blocks)

    def open_transfer(self, init_info: Mapping[str, Any]) -> None:
        """See `Engine.open_transfer`."""
        with self._deaths_told():
            open_transfer(self.llm, init_info)

    def receive_transfer(self, update_info: Mapping[str, Any]) -> None:
        """See `Engine.receive_transfer`."""
        self._refuse_asleep("weights")
        with self._deaths_told():
            _refuse_lacking(receive_transfer(self.llm, update_info))
        self._leave_cache()

    def start_transfer(self, version: int) -> None:
        """See `Engine.start_transfer`."""
        self._refuse_asleep("weights")
        self._half_held = version
        ask_workers(self.llm, "start_transfer")

    def continue_transfer(self, update_info: Mapping[str, Any]) -> None:
        """See `Engine.continue_transfer`."""
        ask_workers(self.llm, "update_weights", dict(update_info))

    def finish_transfer(self) -> None:
        """See `Engine.finish_transfer`."""
        for lacking in ask_workers(self.llm, "finish_transfer"):
            _refuse_lacking(lacking)
        self._half_held = None
        self._leave_cache()

    def sleep(self) -> None:
        """See `Engine.sleep`. vLLM's build for CPUs keeps its memory, and does all else."""
        if "weights" in self._asleep:
            return
        self.abort()
        # What a quantized model has beside the weights of a checkpoint nobody hands over, nor the
        # base of an adapter: at level 1 vLLM keeps its memory's contents in main memory, at level 2
        # it drops them.
        quantized = self.llm.llm_engine.model_config.quantization is not None
        with self._deaths_told():
            self.llm.sleep(level=1 if quantized or self.takes_adapters else 2)
        self._asleep = {"weights", "kv_cache"}

    def wake(self, part: EnginePart) -> None:
        """See `Engine.wake`."""
        if part in self._asleep:
            with self._deaths_told():
                self.llm.wake_up(tags=[part])
            self._asleep.remove(part)

    def _refuse_asleep(self, *parts: EnginePart) -> None:
        """Called before anything is done for which some parts must be awake.

        Raises:
            RuntimeError: If one of them sleeps: its memory is not there.
        """
        if self._asleep.intersection(parts):
            raise RuntimeError(
                "the engine sleeps (rollout.colocate), because the Learners have the device: it "
                "must be woken and be given weights before this"
            )

    @property
    def num_workers(self) -> int:
        """See `Engine.num_workers`."""
        return self._num_workers

    def weight_checksums(self, blocks: Sequence[WeightBlock]) -> list[BlockPart]:
        """See `Engine.weight_checksums`: each worker answers for what it holds."""
        self._refuse_asleep("weights")
        answers = self.llm.collective_rpc("weight_checksums", args=(list(map(asdict, blocks)),))
        return [BlockPart(**part) for answer in answers for part in answer]

    def forget_prompts(self) -> None:
        """See `Engine.forget_prompts`.

        Cached prefixes were computed in other batches, and so rounded otherwise.
        """
        self.llm.reset_prefix_cache()

    def abort(self, keys: Collection[int] | None = None) -> None:
        """See `Engine.abort`."""
        engine = self.llm.llm_engine
        if keys is None:
            engine.abort_request(list(engine.output_processor.request_states), internal=True)
            self._pending.clear()
            return

        given_up = [name for name, (request, _) in self._pending.items() if request.key in keys]
        engine.abort_request(given_up)
        for name in given_up:
            del self._pending[name]

    def close(self) -> None:
        """See `Engine.close`."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            gc.collect()

    @contextmanager
    def _deaths_told(self) -> Iterator[None]:
        """Tells an error that a dead worker has caused from any other.

        Raises:
            EngineDiedError: If a worker's process has ended.
        """
        try:
            yield
        except Exception as error:
            executor = self.llm.llm_engine.engine_core.engine_core.model_executor
            if not getattr(executor, "is_failed", False):
                raise
            raise EngineDiedError(
                f"one of the {self._num_workers} worker processes of the vLLM engine has ended: it "
                "was killed, or the machine ran out of memory"
            ) from error


def _ray_executor(layout: EngineLayout, *, is_cpu: bool) -> Any:
    """What vLLM is given as its executor for workers that are Ray actors.

    A class, not its name: vLLM asks it whether it can have a pipeline.
    """
    if not is_cpu or layout.executor != "ray":
        return "ray"
    # Where it is not used, vLLM's executors of Ray are not imported.
    from rllib_dapo.rollout.cpu_ray_executor import CPURayExecutor

    return CPURayExecutor


def _refuse_lacking(lacking: Sequence[str]) -> None:
    """Refuses new weights where vLLM's model has some that were not among them."""
    if lacking:
        others = f" and {len(lacking) - 1} others" if len(lacking) > 1 else ""
        raise RuntimeError(
            f"rollout.engine=vllm: vLLM has not taken the new weights of {lacking[0]}{others}: "
            "set rollout.engine to transformers"
        )
