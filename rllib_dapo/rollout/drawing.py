"""How transformers' `generate` draws tokens and ends responses as vLLM does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from rllib_dapo.core.sampling_set import SamplingSet
from rllib_dapo.rollout.engine import Sampling
from rllib_dapo.rollout.stop_strings import Decode


def drawing(
    sampling: Sampling, *, prompt_tokens: int, decode: Decode | None = None
) -> dict[str, Any]:
    """Arguments of `generate`.

    Args:
        sampling: How responses are drawn.
        prompt_tokens: Number of tokens of the prompt.
        decode: From ids to the text in which stop strings are looked for; needed where there are
            some.
    """
    arguments: dict[str, Any] = {"do_sample": False}
    if sampling.temperature:
        arguments = {
            "do_sample": True,
            "temperature": sampling.temperature,
            "top_p": 1.0,
            "top_k": 0,
        }
        if not sampling.sampling_set.is_whole:
            # Those of `generate` come in another order than vLLM's.
            restricted = _Restricted(sampling.sampling_set, sampling.temperature)
            arguments |= {"temperature": 1.0, "logits_processor": [restricted]}

    if decode is not None:
        stops = _AtStopStrings(sampling.options.stop, prompt_tokens, decode)
        arguments["stopping_criteria"] = [stops]
    return arguments


class _Restricted(LogitsProcessor):
    """Logits after temperature, -inf where a token may not be sampled."""

    def __init__(self, sampling_set: SamplingSet, temperature: float) -> None:
        self._set, self._temperature = sampling_set, temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scaled = scores.to(torch.promote_types(scores.dtype, torch.float32)) / self._temperature
        return scaled.masked_fill(~self._set.members(scaled), -torch.inf)


class _AtStopStrings(StoppingCriteria):
    """Ends a row as soon as its response has a stop string."""

    def __init__(self, stop: tuple[str, ...], prompt_tokens: int, decode: Decode) -> None:
        self._stop, self._prompt_tokens, self._decode = stop, prompt_tokens, decode

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        texts = [self._decode(row) for row in input_ids[:, self._prompt_tokens :].tolist()]
        has_stopped = [any(stop in text for stop in self._stop) for text in texts]
        return torch.tensor(has_stopped, device=input_ids.device)
