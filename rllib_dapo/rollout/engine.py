"""What a text generator must offer to sit behind an EnvRunner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rllib_dapo.core.types import FinishReason

ENGINES = ("vllm", "transformers")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How responses are drawn.

    Attributes:
        num_responses: Responses per prompt (the group size `G`).
        max_tokens: Hard limit on a response, in tokens.
        temperature: Divisor of the logits, positive.
        top_p: Nucleus; train at 1.0, where the sampler's log-probabilities are those of the whole distribution.
    """

    num_responses: int
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What an engine returns for one response: `[T]` ids, `[T]` log-probabilities, and how it ended."""

    token_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    finish_reason: FinishReason


class Engine(Protocol):
    """Samples responses to prompts and takes new weights."""

    def generate(
        self, prompts: Sequence[Sequence[int]], *, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        """Samples `sampling.num_responses` responses to each prompt.

        Args:
            prompts: Token ids of each prompt.
            sampling: How to draw.
            seeds: One seed for each prompt; the same seed, prompt and weights give the same responses.

        Returns:
            For each prompt its responses, in order.
        """

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Replaces the weights, named as in the Hugging Face model, and forgets everything cached under old ones."""

    def abort(self) -> None:
        """Gives up whatever is being generated."""

    def close(self) -> None:
        """Frees memory and processes; the engine is of no use afterwards."""


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
) -> Engine:
    """Builds the engine named by the setting `rollout.engine`.

    Args:
        kind: `"vllm"` or `"transformers"`.
        model: A model folder or hub name.
        dtype: `"float32"` or `"bfloat16"`.
        trust_remote_code: Whether the model may bring code of its own.
        max_model_len: Longest prompt plus longest response, in tokens.
        max_concurrent_responses: How many responses are generated at a time.
        cpu_kv_cache_gib: Size of vLLM's key-value cache on a machine without a GPU, in GiB.
        seed: Of the engine's own random state.
        engine_kwargs: Passed on to `vllm.LLM` (or transformers' `generate`) as they are.
    """
    if kind == "vllm":
        from rllib_dapo.rollout.vllm_engine import VLLMEngine

        return VLLMEngine(
            model=model,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            max_model_len=max_model_len,
            max_num_seqs=max_concurrent_responses,
            cpu_kv_cache_gib=cpu_kv_cache_gib,
            seed=seed,
            engine_kwargs=engine_kwargs,
        )
    from rllib_dapo.rollout.hf_engine import TransformersEngine

    return TransformersEngine(
        model=model,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        max_num_seqs=max_concurrent_responses,
        generate_kwargs=engine_kwargs,
    )
