"""A group of responses to a prompt of random tokens, for comparing an engine with a Learner."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rllib_dapo.core.types import PromptGroup, Response
from rllib_dapo.models import control_token_ids
from rllib_dapo.rollout.engine import Completion, Engine, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A few dozen tokens give a mean that is precise enough.
RESPONSES, TOKENS = 4, 8


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
