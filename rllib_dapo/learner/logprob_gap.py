"""How far sampler and trainer are apart in the same responses under the same weights, and under what assumptions.

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
from rllib_dapo.learner.training_data import MicroBatch

if TYPE_CHECKING:
    from rllib_dapo.learner.module import CausalLMModule


@dataclass(frozen=True, kw_only=True, slots=True)
class GapReport:
    """Mean |log-prob of trainer - log-prob of sampler| per token, in nats, over all Learners.

    Attributes:
        tokens: How many tokens were compared.
        mean: With the settings as they are.
        largest: The largest difference of a single token.
        at_temperature_one: The mean, had the trainer not divided its logits by the temperature.
        in_float32: The mean, had the trainer computed in float32; None where it does, or cannot.
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

    Args:
        batches: Micro-batches of `core.collate`, sampled under the weights that the module holds
            now.
        module: Whose settings are varied.
        forward: Outputs of the module; every Learner calls it equally often.
    """

    def differences(**changes: Any) -> list[Tensor]:
        with module.settings_changed(**changes):
            scored = [forward(batch)["logprobs"] for batch in batches]
        pairs = zip(scored, batches, strict=True)
        mine = torch.cat(
            [(s - b["sampler_logprobs"]).abs()[b["mask"]].float().cpu() for s, b in pairs]
        )
        return gather(mine)

    def mean(parts: list[Tensor]) -> float:
        return float(torch.cat(parts).mean())

    gaps = torch.cat(differences())
    # With weights in half precision there is nothing wider to compute with.
    could_be_wider = (
        module.settings.dtype == torch.bfloat16
        and next(module.lm.parameters()).dtype == torch.float32
    )
    return GapReport(
        tokens=len(gaps),
        mean=float(gaps.mean()),
        largest=float(gaps.max()),
        at_temperature_one=mean(differences(temperature=1.0)),
        in_float32=mean(differences(dtype=torch.float32)) if could_be_wider else None,
    )
