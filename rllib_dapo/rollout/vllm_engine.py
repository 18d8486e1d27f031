"""vLLM as the sampler: the only module that imports it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable
from itertools import count
from typing import Any

import numpy as np
from torch import Tensor

from rllib_dapo.rollout.engine import Completion, Engine, Finished, Request, Sampling

# The engine core runs in this process: weights are then handed over as tensors, and nothing
# outlives the actor.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
# On a CPU, threads are the caller's business: the Learner may share this process and its cores.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

from vllm import LLM, SamplingParams, TokensPrompt
from vllm.outputs import CompletionOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind

GIB = 1 << 30
CPU_BATCHED_TOKENS = 4096


class VLLMEngine(Engine):
    """A `rollout.engine.Engine` around `vllm.LLM`."""

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
        """Loads the model; see `rollout.engine.make_engine` for the arguments."""
        settings: dict[str, Any] = {
            "model": model,
            "dtype": dtype,
            "trust_remote_code": trust_remote_code,
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "seed": seed,
            "disable_log_stats": True,
            # The log-probabilities of the distribution that was sampled from: after temperature,
            # not before.
            "logprobs_mode": "processed_logprobs",
        }
        if current_platform.is_cpu():
            settings["enforce_eager"] = True
            settings["kv_cache_memory_bytes"] = int(cpu_kv_cache_gib * GIB)
            # vLLM takes back the draw for a half-read prompt, which a generator on the CPU cannot
            # do: it would raise for any request with a seed of its own. So prompts are read whole.
            settings["enable_chunked_prefill"] = False
            settings["max_num_batched_tokens"] = max(max_model_len, CPU_BATCHED_TOKENS)
        self._llm: LLM | None = LLM(**(settings | engine_kwargs))
        self._names = count()
        self._asked: dict[str, tuple[int, int]] = {}

    @property
    def llm(self) -> LLM:
        """The engine itself; raises once closed."""
        if self._llm is None:
            raise RuntimeError("this vLLM engine was closed")
        return self._llm

    def add(self, request: Request) -> None:
        """See `Engine.add`: vLLM batches all requests continuously.

        Every response is a request of its own, which is what vLLM makes of a request for several
        responses too, but here each is returned as soon as it ends. The prompt's keys and values
        are shared through the prefix cache.
        """
        prompt = TokensPrompt(prompt_token_ids=list(request.prompt_ids))
        for index in range(request.sampling.num_responses):
            name = str(next(self._names))
            self._asked[name] = (request.key, index)
            self.llm.llm_engine.add_request(
                name, prompt, _parameters(request.sampling, request.seed + index)
            )

    def step(self) -> list[Finished]:
        """See `Engine.step`: one forward pass."""
        finished = []
        for output in self.llm.llm_engine.step():
            key, index = self._asked.pop(output.request_id)
            finished.append(
                Finished(key=key, index=index, completion=_completion(output.outputs[0]))
            )
        return finished

    @property
    def is_idle(self) -> bool:
        """See `Engine.is_idle`."""
        return not self._asked

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """See `Engine.load_weights`: in place, then the prefix cache of the old weights is dropped."""
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
        self.llm.reset_prefix_cache()

    def forget_prompts(self) -> None:
        """See `Engine.forget_prompts`: what the prefix cache holds was computed in other batches, and so rounded."""
        self.llm.reset_prefix_cache()

    def abort(self) -> None:
        """See `Engine.abort`."""
        engine = self.llm.llm_engine
        engine.abort_request(list(engine.output_processor.request_states), internal=True)
        self._asked.clear()

    def close(self) -> None:
        """See `Engine.close`."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            gc.collect()


def _parameters(sampling: Sampling, seed: int) -> SamplingParams:
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
    """Keeps the sampled token's log-probability: the first of each position, whatever else vLLM lists there."""
    flat = output.logprobs
    starts = np.asarray(flat.start_indices, dtype=np.int64)
    return Completion(
        token_ids=np.asarray(output.token_ids, dtype=np.int32),
        logprobs=np.asarray(flat.logprobs, dtype=np.float32)[starts],
        finish_reason="length" if output.finish_reason == "length" else "stop",
    )
