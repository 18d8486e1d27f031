"""The vLLM engine; the only module that imports vLLM."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import count
from typing import Any

import numpy as np
from torch import Tensor

from rllib_dapo.findings import one_line
from rllib_dapo.rollout.engine import (
    CHANGED_CLASSES,
    Completion,
    Engine,
    FinishedResponse,
    Request,
    Sampling,
)
from rllib_dapo.rollout.vllm_worker import WeightReceiver
from rllib_dapo.weight_checksums import BlockPart, WeightBlock

# The engine core runs in this process, so weights are handed over as tensors and nothing outlives
# the actor.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
# On a CPU the caller sets the threads: the Learner may share this process and its cores.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

from vllm import LLM, SamplingParams, TokensPrompt
from vllm.outputs import CompletionOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind

GIB = 1 << 30
CPU_BATCHED_TOKENS = 4096
WORKER_EXTENSION = f"{WeightReceiver.__module__}.{WeightReceiver.__qualname__}"


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
        engine_kwargs: dict[str, Any],
    ) -> None:
        """Loads the model; see `rollout.make_engine` for the arguments."""
        settings: dict[str, Any] = {
            "model": model,
            "dtype": dtype,
            "trust_remote_code": trust_remote_code,
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "seed": seed,
            "disable_log_stats": True,
            "worker_extension_cls": WORKER_EXTENSION,
            # Log-probabilities of the distribution that is sampled from: after temperature, not
            # before.
            "logprobs_mode": "processed_logprobs",
        }
        if current_platform.is_cpu():
            settings["enforce_eager"] = True
            settings["kv_cache_memory_bytes"] = int(cpu_kv_cache_gib * GIB)
            # With chunked prefill, vLLM 0.32 takes back the draw for a half-read prompt from the
            # request's own generator. PyTorch's CPU generators cannot do that, so it would raise
            # for any request with a seed. Hence prompts are read whole.
            settings["enable_chunked_prefill"] = False
            settings["max_num_batched_tokens"] = max(max_model_len, CPU_BATCHED_TOKENS)

        self._llm: LLM | None = _start(settings | engine_kwargs)
        self._request_ids = count()
        # vLLM's request id -> key of our request and place of the response in it.
        self._pending: dict[str, tuple[int, int]] = {}

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
        prompt = TokensPrompt(prompt_token_ids=list(request.prompt_ids))

        for index in request.wanted:
            request_id = str(next(self._request_ids))
            self._pending[request_id] = (request.key, index)
            self.llm.llm_engine.add_request(
                request_id, prompt, _sampling_params(request.sampling, request.seed + index)
            )

    def step(self) -> list[FinishedResponse]:
        """See `Engine.step`: one forward pass."""
        finished = []
        for output in self.llm.llm_engine.step():
            key, index = self._pending.pop(output.request_id)
            completion = _completion(output.outputs[0])
            finished.append(FinishedResponse(key=key, index=index, completion=completion))
        return finished

    @property
    def is_idle(self) -> bool:
        """See `Engine.is_idle`."""
        return not self._pending

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """See `Engine.load_weights`: in place; then the old weights' prefix cache is dropped."""
        for lacking in self.llm.collective_rpc("receive_weights", args=(iter(weights),)):
            if lacking:
                others = f" and {len(lacking) - 1} others" if len(lacking) > 1 else ""
                raise RuntimeError(
                    f"rollout.engine=vllm: vLLM has not taken the new weights of {lacking[0]}"
                    f"{others}: set rollout.engine to transformers"
                )
        self.llm.reset_prefix_cache()

    def weight_checksums(self, blocks: Sequence[WeightBlock]) -> list[BlockPart]:
        """See `Engine.weight_checksums`: each worker answers for what it holds."""
        answers = self.llm.collective_rpc("weight_checksums", args=(list(map(asdict, blocks)),))
        return [BlockPart(**part) for answer in answers for part in answer]

    def forget_prompts(self) -> None:
        """See `Engine.forget_prompts`.

        Cached prefixes were computed in other batches, and so rounded otherwise.
        """
        self.llm.reset_prefix_cache()

    def abort(self) -> None:
        """See `Engine.abort`."""
        engine = self.llm.llm_engine
        engine.abort_request(list(engine.output_processor.request_states), internal=True)
        self._pending.clear()

    def close(self) -> None:
        """See `Engine.close`."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            gc.collect()


def _start(settings: dict[str, Any]) -> LLM:
    """Starts vLLM; its errors, often many lines, become one that names the setting."""
    try:
        llm = LLM(**settings)
    except Exception as error:
        raise ValueError(
            f"rollout.engine=vllm cannot run language_model.name={settings['model']!r}: "
            f"{_reason(error)[:300]}; mend that, or set rollout.engine to transformers"
        ) from error

    model_config = llm.llm_engine.model_config
    if model_config.using_transformers_backend():
        CHANGED_CLASSES.update(model_config.architectures)
    return llm


def _reason(error: Exception) -> str:
    """What pydantic, which wraps vLLM's own messages, was told; else the message."""
    details = getattr(error, "errors", None)
    if callable(details):
        return str(details()[0]["msg"]).removeprefix("Value error, ")
    return one_line(error)


def _sampling_params(sampling: Sampling, seed: int) -> SamplingParams:
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=seed,
        logprobs=0,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _completion(output: CompletionOutput) -> Completion:
    """Keeps the sampled tokens' log-probabilities: vLLM lists the sampled token first."""
    flat = output.logprobs
    starts = np.asarray(flat.start_indices, dtype=np.int64)

    return Completion(
        token_ids=np.asarray(output.token_ids, dtype=np.int32),
        logprobs=np.asarray(flat.logprobs, dtype=np.float32)[starts],
        finish_reason="length" if output.finish_reason == "length" else "stop",
    )
