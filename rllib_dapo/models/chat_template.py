"""From texts to the token ids a model reads: prompts, and observations between two turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Stands for the assistant's message in a rendered template: plain letters, which none changes.
_PLACEHOLDER = "assistantsaidthis"


def prompt_token_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Returns the token ids of a prompt: one user message in the model's chat template.

    The template writes the beginning-of-sequence token where the model wants one, so the tokenizer
    adds none. Without a template the prompt is encoded as it stands, with the special tokens that
    the tokenizer puts in front of a text by itself. One that it puts behind, to say that the text
    has ended, is left out: the policy is to go on from there.

    Args:
        tokenizer: The model's tokenizer.
        prompt: Text of the prompt.
    """
    if not tokenizer.chat_template:
        ids = list(tokenizer(prompt)["input_ids"])
        return ids[:-1] if appends_end(tokenizer) else ids

    messages = [{"role": "user", "content": prompt}]
    return list(
        tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
    )


def appends_end(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer puts the end-of-sequence token behind every text.

    Args:
        tokenizer: The model's tokenizer.
    """
    end = tokenizer.eos_token_id
    bare, wrapped = (
        list(tokenizer("1", add_special_tokens=flag)["input_ids"]) for flag in (False, True)
    )
    return end is not None and wrapped[-1:] == [end] and bare[-1:] != [end]


def observation_token_ids(
    tokenizer: PreTrainedTokenizerBase, observation: str, *, after: int
) -> list[int]:
    """Returns the token ids between two turns of the policy: an observation as the user's message.

    They are what the chat template puts between one message of the assistant and the next. They do
    not depend on the tokens before them, so they can follow whatever was sampled and leave it as it
    is. (This would not hold for templates that rewrite earlier messages, for instance to leave out
    what a model thought.)

    Special tokens that the tokenizer names are removed from the observation. A tool may repeat what
    a model wrote, and neither should be able to write a message of another role. Other special
    tokens are the environment's to remove.

    Args:
        tokenizer: The model's tokenizer.
        observation: Text that the environment returned.
        after: Last token that was sampled. Where it ends the assistant's message already, the
            template's own end of the message is left out.

    Raises:
        ValueError: If the template does not keep the observation; one line.
    """
    for token in tokenizer.all_special_tokens:
        observation = observation.replace(str(token), "")

    between = observation
    if tokenizer.chat_template:
        messages = [("user", "-"), ("assistant", _PLACEHOLDER), ("user", observation)]
        rendered = tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in messages],
            add_generation_prompt=True,
            tokenize=False,
        )
        # The first placeholder is ours: the observation comes after it.
        _, _, between = str(rendered).partition(_PLACEHOLDER)
        between = between.removeprefix(str(tokenizer.convert_ids_to_tokens(after)))
        if observation.strip() not in between:
            raise ValueError(
                "the model's chat_template does not keep what an environment answers: set "
                "rollout.max_turns to 1, or mend the template"
            )

    return list(tokenizer(between, add_special_tokens=False)["input_ids"])
