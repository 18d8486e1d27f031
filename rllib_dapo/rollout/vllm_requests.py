"""From our requests to vLLM's, and from its outputs to our completions."""

from __future__ import annotations

import numpy as np
from vllm import SamplingParams
from vllm.outputs import CompletionOutput
from vllm.sampling_params import RequestOutputKind

from rllib_dapo.rollout.engine import Completion, Sampling


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


def to_completion(output: CompletionOutput) -> Completion:
    """Keeps the sampled tokens' log-probabilities: vLLM lists the sampled token first."""
    flat = output.logprobs
    starts = np.asarray(flat.start_indices, dtype=np.int64)

    return Completion(
        token_ids=np.asarray(output.token_ids, dtype=np.int32),
        logprobs=np.asarray(flat.logprobs, dtype=np.float32)[starts],
        finish_reason="length" if output.finish_reason == "length" else "stop",
    )
