"""Loads models and tokenizers with transformers, from a folder or by a hub name."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(path: Path | str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Loads a tokenizer.

    Args:
        path: A model folder or a hub name.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        ValueError: If it does not load; one line, with transformers' own error as the cause.
    """
    from transformers import AutoTokenizer

    with _errors_name_the_setting("tokenizer", path):
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
        dtype: Type of the parameters, such as `torch.float32` or `"bfloat16"`; the files may hold
            another one.
        trust_remote_code: Whether code that comes with the model may run.
        attn_implementation: Transformers' name of the attention to use.

    Raises:
        ValueError: If it does not load; one line, with transformers' own error as the cause.
    """
    from transformers import AutoModelForCausalLM

    settings: dict[str, Any] = {"dtype": dtype, "attn_implementation": attn_implementation}
    with _errors_name_the_setting("model", path):
        return AutoModelForCausalLM.from_pretrained(
            str(path), trust_remote_code=trust_remote_code, **settings
        )


@contextmanager
def _errors_name_the_setting(what: str, path: Path | str) -> Iterator[None]:
    """Turns transformers' errors, often many lines about a file, into one about the setting."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"language_model.name={str(path)!r}: the {what} does not load: {reason}"
        ) from error
