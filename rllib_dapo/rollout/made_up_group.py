"""A group of responses to a prompt of random tokens, for comparing an engine with a Learner."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rllib_dapo.core.types import PromptGroup, Response
from rllib_dapo.findings import one_line
from rllib_dapo.models import control_token_ids
from rllib_dapo.rollout.engine import Completion, Engine, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rllib_dapo.config.dapo_config import DAPOConfig

# A few dozen tokens give a mean that is precise enough.
RESPONSES, TOKENS = 4, 8


def try_made_up_group(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    sampling: Sampling,
    config: DAPOConfig,
    **options: int,
) -> PromptGroup | str:
    """The same, or one line if the engine cannot run the model.

    Args:
        engine: As for `made_up_group`, like the arguments after it.
        tokenizer: See there.
        sampling: See there.
        config: The algorithm's configuration.
        **options: Further arguments of `made_up_group`.
    """
    try:
        return made_up_group(engine, tokenizer, sampling, **options)
    except Exception as error:  # an engine may find out only now what it cannot compute
        return (
            f"rollout.engine={config.engine} cannot sample from language_model.name="
            f"{config.model_name!r}: {one_line(error)[:300]}"
        )


def made_up_group(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    sampling: Sampling,
    *,
    prompt_tokens: int,
    weights_version: int,
) -> PromptGroup:
    """Samples a little after a prompt of random tokens.

    Args:
        engine: An engine that is idle; it has forgotten the prompt afterwards.
        tokenizer: The model's tokenizer, whose control tokens are left out of the prompt.
        sampling: How a run draws its responses; here they are few and short.
        prompt_tokens: Length of the prompt.
        weights_version: Version of the engine's weights.

    Returns:
        A group whose rewards are all 0.
    """
    control = control_token_ids(tokenizer)
    plain = [index for index in range(len(tokenizer)) if index not in control]
    prompt = np.random.default_rng(0).choice(plain, size=prompt_tokens).astype(np.int32)

    few = replace(sampling, num_responses=RESPONSES, max_tokens=min(TOKENS, sampling.max_tokens))
    (completions,) = engine.generate([prompt.tolist()], sampling=few, seeds=[0])
    engine.forget_prompts()

    return PromptGroup(
        seed=0,
        prompt="",
        prompt_ids=prompt,
        responses=tuple(map(_response, completions)),
        weights_version=weights_version,
    )


def _response(completion: Completion) -> Response:
    return Response(
        token_ids=completion.token_ids,
        loss_mask=np.ones(len(completion.token_ids), dtype=bool),
        logprobs=completion.logprobs,
        finish_reason=completion.finish_reason,
        reward=0.0,
        is_correct=None,
        text="",
    )
