"""From what environments observe to what a model reads: prompts as text and as token ids."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rllib_dapo.envs.messages import plain_text
from rllib_dapo.envs.verify import MissingReason
from rllib_dapo.models import prompt_token_ids
from rllib_dapo.rollout.environment_guard import PromptReset
from rllib_dapo.rollout.make_environment import environment_name
from rllib_dapo.rollout.rollout_loop import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.rollout.env_stepper import EnvStepper

logger = logging.getLogger(__name__)


def read_prompts(
    tokenizer: PreTrainedTokenizerBase, resets: Iterable[PromptReset], config: DAPOConfig
) -> list[tuple[str, Prompt]]:
    """Reads the first observations of environments, each once for its whole group.

    Args:
        tokenizer: The model's tokenizer.
        resets: What the first resets gave.
        config: Has the system prompt.

    Returns:
        Each prompt as one text, for people, and as token ids, in the order of the resets. One that
        the environment did not give, or the chat template does not take, is lost, with the reason.
    """
    return [_read(tokenizer, reset, config) for reset in resets]


def check_first_prompt(
    env_stepper: EnvStepper, tokenizer: PreTrainedTokenizerBase, config: DAPOConfig
) -> None:
    """Refuses an environment whose prompts cannot be read, before an engine starts.

    One whose reset raises may do better later: sampling tells what it raises then.

    Args:
        env_stepper: Resets the environments of training.
        tokenizer: The model's tokenizer.
        config: Names the environment, and has the system prompt.

    Raises:
        ValueError: If what it observes is not a prompt, or the chat template does not take it; one
            line.
    """
    (reset,) = env_stepper.prompts([0])
    refusal = reset.reason if reset.is_bad else ""
    if reset.prompt is not None:
        try:
            prompt_token_ids(tokenizer, reset.prompt, system_prompt=config.system_prompt)
        except ValueError as error:
            refusal = str(error)
    if refusal:
        name = environment_name(config.env)
        raise ValueError(f"environment.env={name}: the prompt of seed {reset.seed}: {refusal}")


def _read(
    tokenizer: PreTrainedTokenizerBase, reset: PromptReset, config: DAPOConfig
) -> tuple[str, Prompt]:
    if reset.prompt is None:
        return "", Prompt(seed=reset.seed, token_ids=(), lost=reset.reason)

    text = plain_text(reset.prompt)
    try:
        ids = prompt_token_ids(tokenizer, reset.prompt, system_prompt=config.system_prompt)
    except ValueError as error:
        reason = f"{MissingReason.CRASH}: the prompt cannot be read: {error}"
        logger.warning("%s: seed %d: %s", environment_name(config.env), reset.seed, reason)
        return text, Prompt(seed=reset.seed, token_ids=(), lost=reason)
    return text, Prompt(seed=reset.seed, token_ids=ids)
