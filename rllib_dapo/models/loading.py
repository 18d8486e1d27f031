"""Thin wrappers over transformers, for a folder or a hub name."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

_PLACE = "assistantsaidthis"  # stands for a message in a chat template; plain letters, which none changes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(path: Path | str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Loads a tokenizer.

    Raises:
        ValueError: If it does not load; one line, with transformers' own error as the cause.
    """
    from transformers import AutoTokenizer

    with _named("tokenizer", path):
        return AutoTokenizer.from_pretrained(str(path), trust_remote_code=trust_remote_code)


def load_causal_lm(
    path: Path | str,
    *,
    dtype: torch.dtype | str,
    trust_remote_code: bool = False,
    attn_implementation: str = "sdpa",
) -> PreTrainedModel:
    """Loads a causal language model onto the CPU.

    Args:
        path: A model folder or a hub name.
        dtype: Of the parameters, such as ``torch.float32`` or ``"bfloat16"``; whatever the files
            hold.
        trust_remote_code: Whether code that comes with the model may run.
        attn_implementation: As transformers names them.

    Raises:
        ValueError: If it does not load; one line, with transformers' own error as the cause.
    """
    from transformers import AutoModelForCausalLM

    settings: dict[str, Any] = {"dtype": dtype, "attn_implementation": attn_implementation}
    with _named("model", path):
        return AutoModelForCausalLM.from_pretrained(
            str(path), trust_remote_code=trust_remote_code, **settings
        )


def prompt_token_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Returns the token ids that a model reads for a prompt: one user message in the model's chat template.

    The template writes the beginning-of-sequence token where the model wants one, so the tokenizer
    adds none. Without a template the prompt is encoded as it stands, with the special tokens that
    the tokenizer adds by itself.
    """
    if not tokenizer.chat_template:
        return list(tokenizer(prompt)["input_ids"])
    messages = [{"role": "user", "content": prompt}]
    return list(
        tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
    )


def answer_token_ids(
    tokenizer: PreTrainedTokenizerBase, observation: str, *, after: int
) -> list[int]:
    """Returns the token ids between two turns of the policy: an environment's answer, as the user's next message.

    They are what the chat template puts between one message of the assistant and the next. The
    tokens before them are not needed: these can be put behind what was sampled, whatever that was,
    and leave it as it is. (Templates that rewrite earlier messages, leaving out what a model
    thought, would not.)

    Special tokens in the observation are taken out of it: a tool may repeat what a model wrote, and
    neither should speak in another's role.

    Args:
        tokenizer: The model's.
        observation: What the environment answered.
        after: The last token that was sampled; where it ends the assistant's message, it is not
            written twice.
    """
    for token in tokenizer.all_special_tokens:
        observation = observation.replace(str(token), "")
    between = observation
    if tokenizer.chat_template:
        messages = [("user", "-"), ("assistant", _PLACE), ("user", observation)]
        text = tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in messages],
            add_generation_prompt=True,
            tokenize=False,
        )
        between = (
            str(text).partition(_PLACE)[2].removeprefix(str(tokenizer.convert_ids_to_tokens(after)))
        )
    return list(tokenizer(between, add_special_tokens=False)["input_ids"])


@contextmanager
def _named(what: str, path: Path | str) -> Iterator[None]:
    """Names the setting where transformers would tell of a file, often in many lines."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"language_model.name={str(path)!r}: the {what} does not load: {reason}"
        ) from error
