"""From a configuration to what an engine is told about drawing, and a Learner about scoring."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rllib_dapo.core.sampling_set import SamplingSet
from rllib_dapo.rollout.engine import Sampling
from rllib_dapo.rollout.sampling_options import SamplingOptions, read_sampling_options

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
            options=evaluation_options(config),
        )
    return sampling(
        num_responses=config.group_size,
        temperature=config.temperature,
        top_p=config.top_p,
        options=read_sampling_options(config.sampling),
    )


def evaluation_options(config: DAPOConfig) -> SamplingOptions:
    """Training's options with what evaluation changes of them.

    Args:
        config: The algorithm's configuration.
    """
    return read_sampling_options({**config.sampling, **config.evaluation_sampling})


def trained_sampling_set(config: DAPOConfig) -> SamplingSet:
    """The tokens that training samples from, over which Learners renormalise.

    Args:
        config: The algorithm's configuration.
    """
    return sampling_of(config, evaluation=False).sampling_set


def refuse_unknown_tokens(config: DAPOConfig, *, vocabulary: int) -> None:
    """Refuses ids with which no response can end.

    Args:
        config: The algorithm's configuration.
        vocabulary: Number of tokens that the tokenizer has.

    Raises:
        ValueError: For the first id that is not one of them; one line.
    """
    trained = read_sampling_options(config.sampling)
    for setting, options in (
        ("rollout.sampling", trained),
        ("evaluation.evaluation_sampling", evaluation_options(config)),
    ):
        for token_id in options.stop_token_ids:
            if token_id >= vocabulary:
                raise ValueError(
                    f"{setting}.stop_token_ids holds {token_id}, and the tokenizer of "
                    f"language_model.name={config.model_name} has ids below {vocabulary}"
                )
