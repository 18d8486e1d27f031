"""From a configuration to what an engine is told about drawing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rllib_dapo.rollout.engine import Sampling

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig


def sampling_of(config: DAPOConfig, *, evaluation: bool, adapter: str | None = None) -> Sampling:
    """How to draw responses.

    Args:
        config: The algorithm's configuration.
        evaluation: Use evaluation's settings instead of training's.
        adapter: What to sample from of the engine's adapters; None for its own weights.
    """
    sampling = partial(Sampling, max_tokens=config.max_response_tokens, adapter=adapter)
    if evaluation:
        return sampling(
            num_responses=config.evaluation_responses_per_prompt,
            temperature=config.evaluation_temperature,
            top_p=config.evaluation_top_p,
        )
    return sampling(
        num_responses=config.group_size, temperature=config.temperature, top_p=config.top_p
    )
