"""How far sampler and trainer are apart in the same responses under the same weights, and why.

Ratios compare the two. Where they differ by more than rounding, something is wrong that no loss
curve shows: another temperature, raw instead of processed log-probabilities, another precision,
other weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rllib_dapo.learner.collectives import gather
from rllib_dapo.learner.planned_batch import MicroBatch

if TYPE_CHECKING:
    from rllib_dapo.learner.module import CausalLMModule

# How far the edges of the engine's set of tokens may be from the Learner's: as a share of the
# probability in it, which both sum up over all words in float32.
EDGE = 1e-4


@dataclass(frozen=True, kw_only=True, slots=True)
class GapReport:
    """Mean |log-prob of trainer - log-prob of sampler| per token, in nats, over all Learners.

    Attributes:
        tokens: Number of tokens that were compared.
        mean: Mean under the settings as they are.
        largest: Largest difference of a single token.
        at_temperature_one: Mean if the trainer did not divide its logits by the temperature.
        in_float32: Mean if the trainer computed in float32; None where it does, or cannot.
    """

    tokens: int
    mean: float
    largest: float
    at_temperature_one: float
    in_float32: float | None


@torch.no_grad()
def measure_gap(
    batches: Sequence[MicroBatch],
    module: CausalLMModule,
    forward: Callable[[MicroBatch], dict[str, Tensor]],
) -> GapReport:
    """Scores responses under several assumptions.

    Every Learner makes the same calls, and all have the same report.

    Args:
        batches: Micro-batches of `core.collate`, sampled under the weights that the module holds
            now.
        module: Module whose settings are varied.
        forward: Outputs of the module for a micro-batch.
    """

    def differences(**changes: Any) -> Tensor:
        with module.settings_changed(**changes):
            scored = [forward(batch)["logprobs"] for batch in batches]
        pairs = zip(scored, batches, strict=True)
        mine = torch.cat([token_gaps(logprobs, batch).float().cpu() for logprobs, batch in pairs])
        return torch.cat(gather(mine))

    gaps = differences()
    sampling_set = module.settings.sampling_set
    if not sampling_set.is_whole:
        # A token at the edge of a set may be in it for one side alone. It shifts the other tokens'
        # log-probabilities by more than a limit for float32 allows, and is no fault.
        for neighbour in sampling_set.neighbours(EDGE):
            gaps = torch.minimum(gaps, differences(sampling_set=neighbour))
    at_temperature_one = float(differences(temperature=1.0).mean())

    # With weights in half precision there is nothing wider to compute with.
    could_be_wider = (
        module.settings.dtype == torch.bfloat16
        and next(module.lm.parameters()).dtype == torch.float32
    )
    in_float32 = float(differences(dtype=torch.float32).mean()) if could_be_wider else None

    return GapReport(
        tokens=len(gaps),
        mean=float(gaps.mean()),
        largest=float(gaps.max()),
        at_temperature_one=at_temperature_one,
        in_float32=in_float32,
    )


def token_gaps(logprobs: Tensor, batch: MicroBatch) -> Tensor:
    """`[n]` |log-prob of trainer - log-prob of sampler| of the `n` tokens with loss, in nats.

    Args:
        logprobs: The trainer's log-probabilities, `[B, T]`.
        batch: Micro-batch of `core.collate`.
    """
    return (logprobs - batch["sampler_logprobs"]).abs()[batch["mask"]]
