"""From what environments observe to what a model reads: prompts as text and as token ids."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from rllib_dapo.envs.messages import Conversation, as_conversation, plain_text
from rllib_dapo.findings import one_line
from rllib_dapo.models import prompt_token_ids
from rllib_dapo.rollout.rollout_loop import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rllib_dapo.config.dapo_config import DAPOConfig

logger = logging.getLogger(__name__)


def first_observation(observation: Any, *, env: Any, seed: int) -> Conversation:
    """Returns what `reset` gave as a conversation.

    Args:
        observation: What `reset` gave.
        env: The setting `environment.env`, for messages.
        seed: The reset seed, for messages.

    Raises:
        ValueError: If it is neither a text nor messages; one line.
    """
    try:
        return as_conversation(observation)
    except ValueError as error:
        raise ValueError(f"environment.env={_name(env)}: reset(seed={seed}): {error}") from error


def read_prompts(
    tokenizer: PreTrainedTokenizerBase,
    observations: Iterable[tuple[int, Any]],
    config: DAPOConfig,
) -> list[tuple[str, Prompt]]:
    """Reads the first observations of environments, each once for its whole group.

    Args:
        tokenizer: The model's tokenizer.
        observations: Reset seeds, and what `reset` gave.
        config: Names the environment and the system prompt.

    Returns:
        Each prompt as one text, for people, and as token ids, in the order of the observations.

    Raises:
        ValueError: If one is not a prompt, or the chat template does not take it; one line.
    """
    prompts = []
    for seed, observation in observations:
        conversation = first_observation(observation, env=config.env, seed=seed)
        try:
            ids = prompt_token_ids(tokenizer, conversation, system_prompt=config.system_prompt)
        except ValueError as error:
            raise ValueError(
                f"environment.env={_name(config.env)}: the prompt of seed {seed}: {error}"
            ) from error
        prompts.append((plain_text(conversation), Prompt(seed=seed, token_ids=ids)))
    return prompts


def check_first_prompt(
    env: gym.Env[Any, Any], tokenizer: PreTrainedTokenizerBase, config: DAPOConfig
) -> None:
    """Refuses an environment whose prompts cannot be read, before an engine starts.

    Args:
        env: The training environment.
        tokenizer: The model's tokenizer.
        config: Names the environment and the system prompt.

    Raises:
        ValueError: As `read_prompts`.
    """
    try:
        observation = env.reset(seed=0)[0]
    except Exception as error:  # it may do better later: sampling tells what it raises then
        logger.warning("the environment raised at its first reset: %s", one_line(error))
        return
    read_prompts(tokenizer, [(0, observation)], config)


def _name(env: Any) -> str:
    return repr(env) if isinstance(env, str) else str(getattr(env, "__name__", env))
