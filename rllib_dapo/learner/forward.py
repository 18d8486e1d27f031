"""From a packed micro-batch to one hidden state, log-probability and entropy per response token."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rllib_dapo.core import (
    EVERY_TOKEN,
    IDENTITY,
    LogitAdjustment,
    SamplingSet,
    chunked_logprobs,
)
from rllib_dapo.learner.activation_memory import offloaded
from rllib_dapo.learner.row_masks import shared_row_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardSettings:
    """How log-probabilities are computed.

    Attributes:
        dtype: Type of the computation, which runs under autocast where the parameters are wider.
        temperature: Sampling temperature that logits are divided by.
        sampling_set: The tokens that the engine samples from, over which probabilities sum to 1.
        chunk_tokens: Number of rows of logits held at a time.
        adjustment: What the model makes of its logits after the output projection. None where that
            is not known: then the model is asked for its logits in full, which takes more memory.
        offload_activations: Whether what the backward pass needs waits in main memory.
    """

    dtype: torch.dtype
    temperature: float
    chunk_tokens: int
    sampling_set: SamplingSet = EVERY_TOKEN
    adjustment: LogitAdjustment | None = IDENTITY
    offload_activations: bool = False


def token_outputs(
    lm: PreTrainedModel,
    batch: dict[str, Tensor],
    settings: ForwardSettings,
    *,
    value_head: nn.Module | None = None,
) -> dict[str, Tensor]:
    """Runs the model on a micro-batch.

    Args:
        lm: The language model.
        batch: Micro-batch of `core.collate`: `R` rows of `S` tokens, `B` responses of up to `T`.
        settings: How log-probabilities are computed.
        value_head: `[n, H] -> [n, 1]`, the value of the state before each token.

    Returns:
        `logprobs` and `entropy`, `[B, T]` in nats, and `values` `[B, T]` where there is a value
        head; all 0 outside `batch["mask"]`.
    """
    mask = batch["mask"]
    wider = next(lm.parameters()).dtype != settings.dtype
    is_moved = settings.offload_activations and torch.is_grad_enabled()
    with (
        torch.autocast(mask.device.type, dtype=settings.dtype, enabled=wider),
        offloaded(lm) if is_moved else nullcontext(),
    ):
        features, inputs, head = _features(
            lm,
            batch,
            needs_features=value_head is not None,
            full_logits=settings.adjustment is None,
        )

        # Only positions that predict a response token are projected to the vocabulary: for a small
        # model, the projection of prompts and padding takes a large part of the time, and full
        # logits take most of the memory.
        predicting = batch["predictor"][mask].long()
        logprobs, entropy = chunked_logprobs(
            inputs.flatten(0, 1)[predicting],
            head,
            batch["response_ids"][mask].long(),
            temperature=settings.temperature,
            chunk_tokens=settings.chunk_tokens,
            adjustment=settings.adjustment or IDENTITY,
            sampling_set=settings.sampling_set,
        )
        outputs = {"logprobs": logprobs, "entropy": entropy}

        if value_head is not None:
            values = value_head(features.flatten(0, 1)[predicting]).squeeze(-1)
            outputs["values"] = values.to(logprobs.dtype)

    empty = logprobs.new_zeros(mask.shape)
    return {name: empty.masked_scatter(mask, values) for name, values in outputs.items()}


def model_inputs(lm: PreTrainedModel, batch: dict[str, Tensor]) -> dict[str, Any]:
    """What the model is called with.

    Rows of one response need no mask: padding is on the right, where causal attention never looks.
    A mask rules out the fastest attention kernels, so only shared rows have one.

    Args:
        lm: The language model.
        batch: Micro-batch of `core.collate`.
    """
    inputs: dict[str, Any] = {"input_ids": batch["input_ids"].long(), "use_cache": False}
    if "segment_ids" in batch:
        inputs |= shared_row_inputs(
            lm.config.get_text_config(), batch["segment_ids"], batch["position_ids"]
        )
    return inputs


def _features(
    lm: PreTrainedModel, batch: dict[str, Tensor], *, needs_features: bool, full_logits: bool
) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Hidden states, the input of the output projection, and the projection.

    Where the logits themselves are asked for, they are the input, and the projection is the
    identity.

    Returns:
        Hidden states `[R, S, H]`, input `[R, S, H]` or `[R, S, V]`, projection `[n, .] -> [n, V]`.
        Where hidden states are not needed, what is given for them may be anything.
    """
    inputs = model_inputs(lm, batch)
    if full_logits:
        output = lm(**inputs, output_hidden_states=needs_features)
        return (
            (output.hidden_states[-1] if needs_features else output.logits),
            output.logits,
            nn.Identity(),
        )

    hidden = lm.base_model(**inputs).last_hidden_state
    return hidden, hidden, lm.get_output_embeddings()
