"""From our requests to vLLM's, and from its outputs to our completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy

import numpy as np
from vllm import SamplingParams, TokensPrompt
from vllm.lora.request import LoRARequest
from vllm.outputs import CompletionOutput
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.llm_engine import LLMEngine

from rllib_dapo.rollout.engine import Completion, Sampling
from rllib_dapo.rollout.sampling_options import SamplingOptions

# What vLLM calls the weights that it has started with.
UNNAMED = "default"


def sampling_params(sampling: Sampling, seed: int) -> SamplingParams:
    """How vLLM is to draw one response.

    Args:
        sampling: How responses are drawn.
        seed: Seed of this response.
    """
    options = sampling.options
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=options.top_k,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        bad_words=list(options.bad_words),
        structured_outputs=_structure(options),
        max_tokens=sampling.max_tokens,
        seed=seed,
        logprobs=0,
        flat_logprobs=True,
        # vLLM looks for stop strings in the text. It is made for nothing else, and has all special
        # tokens, any of which may be one, but for the token that ends a response by itself.
        stop=list(options.stop),
        stop_token_ids=list(options.stop_token_ids),
        detokenize=bool(options.stop),
        skip_special_tokens=False,
        include_stop_str_in_output=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _structure(options: SamplingOptions) -> StructuredOutputsParams | None:
    """What a response must look like, if anything is asked of it."""
    if options.regex is not None:
        return StructuredOutputsParams(regex=options.regex)
    if options.choice:
        return StructuredOutputsParams(choice=list(options.choice))
    if options.json_schema is not None:
        return StructuredOutputsParams(json=options.json_schema)
    return None


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
    """All tokens that were sampled, and their log-probabilities: vLLM lists these first.

    A stop string is cut off vLLM's text at most, never off its token ids.
    """
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
