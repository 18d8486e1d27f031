"""From our requests to vLLM's, and from its outputs to our completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy

import numpy as np
from vllm import SamplingParams, TokensPrompt
from vllm.lora.request import LoRARequest
from vllm.outputs import CompletionOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.llm_engine import LLMEngine

from rllib_dapo.rollout.engine import Completion, Sampling

# What vLLM calls the weights that it has started with.
UNNAMED = "default"


def sampling_params(sampling: Sampling, seed: int) -> SamplingParams:
    """How vLLM is to draw one response.

    Args:
        sampling: How responses are drawn.
        seed: Seed of this response.
    """
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


def add_responses(
    engine: LLMEngine,
    prompt_ids: Sequence[int],
    sampling: Sampling,
    seeds: Mapping[str, int],
    adapter: LoRARequest | None,
    cache_salt: str | None = None,
) -> None:
    """Adds a request for each response to a prompt, which is read and checked once.

    It is done as `LLMEngine.add_request` does it for a request for several responses. To add each
    by itself takes three times as long, which shows where responses have few tokens.

    Args:
        engine: vLLM's engine.
        prompt_ids: `[P]` token ids.
        sampling: How responses are drawn.
        seeds: The seed of each response by the id of its request; at least one.
        adapter: What to sample from; None for the engine's own weights.
        cache_salt: What was computed of a prompt is used for those of the same salt alone.
    """
    reader = engine.input_processor
    (first_id, first_seed), *_ = seeds.items()
    prompt = TokensPrompt(prompt_token_ids=list(prompt_ids))
    if cache_salt is not None:
        prompt["cache_salt"] = cache_salt
    read = reader.process_inputs(
        first_id,
        prompt,
        sampling_params(sampling, first_seed),
        supported_tasks=engine.get_supported_tasks(),
        lora_request=adapter,
    )
    for request_id, seed in seeds.items():
        request = copy(read)
        request.request_id = request_id
        request.sampling_params = copy(read.sampling_params)
        request.sampling_params.seed = seed
        reader.assign_request_id(request)
        engine.output_processor.add_request(request, None, None, 0)
        engine.engine_core.add_request(request)


def not_begun(engine: LLMEngine) -> list[str]:
    """Ids of requests of which no token was sampled yet, in the order in which they were added.

    Args:
        engine: vLLM's engine.
    """
    states = engine.output_processor.request_states.values()
    return [one.external_req_id for one in states if not one.detokenizer.num_output_tokens()]


def to_completion(output: CompletionOutput) -> Completion:
    """Keeps the sampled tokens' log-probabilities: vLLM lists the sampled token first."""
    flat = output.logprobs
    starts = np.asarray(flat.start_indices, dtype=np.int64)
    versions = output.weight_versions or ()
    are_named = all(span.version != UNNAMED for span in versions)

    return Completion(
        token_ids=np.asarray(output.token_ids, dtype=np.int32),
        logprobs=np.asarray(flat.logprobs, dtype=np.float32)[starts],
        finish_reason="length" if output.finish_reason == "length" else "stop",
        version_starts=tuple((span.start, int(span.version)) for span in versions if are_named),
    )
