"""vLLM as the sampler: the only module that imports it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from rllib_dapo.rollout.engine import Completion, Sampling

# The engine core runs in this process: weights are then handed over as tensors, and nothing outlives the actor.
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


class VLLMEngine:
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
            # The log-probabilities of the distribution that was sampled from: after temperature, not before.
            "logprobs_mode": "processed_logprobs",
        }
        if current_platform.is_cpu():
            settings["enforce_eager"] = True
            settings["kv_cache_memory_bytes"] = int(cpu_kv_cache_gib * GIB)
            # vLLM takes back the draw for a half-read prompt, which a generator on the CPU cannot do: it would raise
            # for any request with a seed of its own. So prompts are read whole.
            settings["enable_chunked_prefill"] = False
            settings["max_num_batched_tokens"] = max(max_model_len, CPU_BATCHED_TOKENS)
        self._llm: LLM | None = LLM(**(settings | engine_kwargs))

    @property
    def llm(self) -> LLM:
        """The engine itself; raises once closed."""
        if self._llm is None:
            raise RuntimeError("this vLLM engine was closed")
        return self._llm

    def generate(
        self, prompts: Sequence[Sequence[int]], *, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        """See `Engine.generate`: vLLM batches all prompts continuously."""
        outputs = self.llm.generate(
            [TokensPrompt(prompt_token_ids=list(ids)) for ids in prompts],
            [self._parameters(sampling, seed) for seed in seeds],
            use_tqdm=False,
        )
        return [[_completion(output) for output in request.outputs] for request in outputs]

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """See `Engine.load_weights`: in place, then the prefix cache of the old weights is dropped."""
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
        self.llm.reset_prefix_cache()

    def abort(self) -> None:
        """See `Engine.abort`."""
        engine = self.llm.llm_engine
        engine.abort_request(list(engine.output_processor.request_states), internal=True)

    def close(self) -> None:
        """See `Engine.close`."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            gc.collect()

    @staticmethod
    def _parameters(sampling: Sampling, seed: int) -> SamplingParams:
        return SamplingParams(
            n=sampling.num_responses,
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
