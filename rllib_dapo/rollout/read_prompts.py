"""From what environments observe to what a model reads: prompts as text and as token ids."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rllib_dapo.envs.messages import Message, plain_text
from rllib_dapo.envs.tools import tool_name
from rllib_dapo.envs.verify import MissingReason
from rllib_dapo.models import observation_token_ids, prompt_token_ids
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
        ValueError: If what it observes is not a prompt, the chat template does not take it, or an
            episode of several turns cannot go on in it; one line.
    """
    (reset,) = env_stepper.prompts([0])
    refusal = reset.reason if reset.is_bad else ""
    if reset.prompt is not None:
        try:
            _token_ids(tokenizer, reset, config)
            _try_to_go_on(tokenizer, reset, config)
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
        ids = _token_ids(tokenizer, reset, config)
    except ValueError as error:
        reason = f"{MissingReason.CRASH}: the prompt cannot be read: {error}"
        logger.warning("%s: seed %d: %s", environment_name(config.env), reset.seed, reason)
        return text, Prompt(seed=reset.seed, token_ids=(), lost=reason)
    return text, Prompt(seed=reset.seed, token_ids=ids, tools=reset.tools)


def _token_ids(
    tokenizer: PreTrainedTokenizerBase, reset: PromptReset, config: DAPOConfig
) -> list[int]:
    assert reset.prompt is not None
    if reset.tools and not config.tool_call_parser:
        raise ValueError(
            "the environment declares tools, and rollout.tool_call_parser is not set: name the "
            "format in which the model calls them, such as hermes, or have the environment do "
            "without tools"
        )
    return prompt_token_ids(
        tokenizer, reset.prompt, system_prompt=config.system_prompt, tools=reset.tools
    )


def _try_to_go_on(
    tokenizer: PreTrainedTokenizerBase, reset: PromptReset, config: DAPOConfig
) -> None:
    """Tries what follows a response, where the environment says that something will.

    Raises:
        ValueError: If the chat template cannot go on from what was sampled; one line.
    """
    if config.max_turns == 1 or (reset.max_turns or 1) == 1:
        return
    role, what = ("tool", "what a tool answers") if reset.tools else ("user", "an observation")
    answer = Message(
        role=role,
        content="-",
        name=tool_name(reset.tools[0]) if reset.tools else "",
        tool_call_id="call00000" if reset.tools else "",
    )
    end = tokenizer.eos_token_id or 0
    try:
        observation_token_ids(tokenizer, (answer,), after=end, tools=reset.tools)
    except ValueError as error:
        raise ValueError(
            f"an episode has up to {reset.max_turns} turns, and the model's chat template cannot "
            f"go on with {what} after a response that was sampled: {error}"
        ) from error
