"""What a text generator must offer to sit behind an EnvRunner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

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
        top_p: Nucleus; train at 1.0, where the sampler's log-probabilities are those of the whole
            distribution.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Asks an engine to go on from some tokens.

    Attributes:
        key: The caller's own number, which comes back with every completion.
        prompt_ids: Token ids to go on from.
        sampling: How to draw, and how many responses.
        seed: The same seed, tokens and weights give the same responses.
    """

    key: int
    prompt_ids: Sequence[int]
    sampling: Sampling
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """One response of a request, by the request's `key` and its place among the responses."""

    key: int
    index: int
    completion: Completion


class Engine(ABC):
    """Samples responses to prompts and takes new weights.

    A caller adds requests and steps the engine until it is idle; it may add more between two steps,
    and gets every response as soon as it has ended.
    """

    @abstractmethod
    def add(self, request: Request) -> None:
        """Takes a request. Nothing is computed yet."""

    @abstractmethod
    def step(self) -> list[Finished]:
        """Computes for a while, and returns the responses that ended meanwhile, often none."""

    @property
    @abstractmethod
    def is_idle(self) -> bool:
        """Whether all that was asked for has been returned."""

    @abstractmethod
    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Replaces the weights, named as in the Hugging Face model, and forgets everything cached under old ones."""

    def forget_prompts(self) -> None:  # noqa: B027 (most engines keep nothing)
        """Forgets what is cached of earlier prompts, so that what comes next is computed as by a new engine."""

    @abstractmethod
    def abort(self) -> None:
        """Gives up whatever is being generated."""

    @abstractmethod
    def close(self) -> None:
        """Frees memory and processes; the engine is of no use afterwards."""

    def generate(
        self, prompts: Sequence[Sequence[int]], *, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        """Samples `sampling.num_responses` responses to each prompt, and waits for all of them.

        Args:
            prompts: Token ids of each prompt.
            sampling: How to draw.
            seeds: One seed for each prompt.

        Returns:
            For each prompt its responses, in order.
        """
        for key, (prompt_ids, seed) in enumerate(zip(prompts, seeds, strict=True)):
            self.add(Request(key=key, prompt_ids=prompt_ids, sampling=sampling, seed=seed))
        groups: list[dict[int, Completion]] = [{} for _ in prompts]
        while not self.is_idle:
            for finished in self.step():
                groups[finished.key][finished.index] = finished.completion
        return [[group[index] for index in sorted(group)] for group in groups]


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
    from rllib_dapo.rollout.transformers_engine import TransformersEngine

    return TransformersEngine(
        model=model,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        max_num_seqs=max_concurrent_responses,
        generate_kwargs=engine_kwargs,
    )
