"""Responses and batches that tests of `rllib_dapo.core` make up."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rllib_dapo.core import TrainResponse


def response(
    group: int,
    index: int,
    *,
    prompt: int = 2,
    tokens: int = 3,
    advantage: float = 1.0,
    reward: float = 0.0,
) -> TrainResponse:
    return TrainResponse(
        group=group,
        index=index,
        prompt_tokens=prompt,
        response_tokens=tokens,
        loss_tokens=tokens,
        advantage=advantage,
        reward=reward,
    )


def random_batch(seed: int, *, rows: int = 4, width: int = 6) -> dict[str, Any]:
    """Arguments of the loss with ratios on every side of the bounds; some tokens have no loss."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    old = normal(rows, width) - 3
    return {
        "logprobs": old + 0.4 * normal(rows, width),
        "old_logprobs": old,
        "advantages": normal(rows),
        "mask": torch.rand(rows, width, generator=generator) < 0.8,
        "weights": torch.rand(rows, dtype=torch.float64, generator=generator) + 0.1,
    }
