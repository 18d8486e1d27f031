"""Loads models, their configurations and tokenizers, from a folder or by a hub name."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rllib_dapo.models.attention import choose_attention

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# The file with a model's EOS ids, and with the sampling that its authors recommend.
GENERATION_CONFIG = "generation_config.json"


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
        # Mistral's own library would be chosen where it is installed and a tekken.json lies beside
        # the tokenizer.json. It takes no chat template, and does not tell its control tokens.
        return AutoTokenizer.from_pretrained(
            str(path), trust_remote_code=trust_remote_code, mistral_format=False
        )


def load_config(path: Path | str, *, trust_remote_code: bool = False) -> PreTrainedConfig:
    """Loads a model's configuration, as it was published.

    Args:
        path: A model folder or a hub name.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        ValueError: If it does not load; one line, with transformers' own error as the cause.
    """
    from transformers import AutoConfig

    with _errors_name_the_setting("model's configuration", path):
        return AutoConfig.from_pretrained(str(path), trust_remote_code=trust_remote_code)


def model_file(path: Path | str, name: str) -> str | None:
    """Where one of a model's files is, None if the model has no such file.

    Args:
        path: A model folder or a hub name.
        name: Name of the file.
    """
    from transformers.utils import cached_file

    return cached_file(
        str(path),
        name,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )


def load_causal_lm(
    path: Path | str,
    *,
    dtype: torch.dtype | str,
    trust_remote_code: bool = False,
    attn_implementation: str = "auto",
) -> PreTrainedModel:
    """Loads a causal language model onto the CPU.

    Args:
        path: A model folder or a hub name.
        dtype: Type of the parameters, such as `torch.float32` or `"bfloat16"`; the files may hold
            another one.
        trust_remote_code: Whether code that comes with the model may run.
        attn_implementation: Transformers' name of the attention to use; `"auto"` takes the fastest
            one that computes what this model is.

    Raises:
        ValueError: If it does not load, or if its files lack weights that it needs; one line, with
            transformers' own error, where there is one, as the cause.
    """
    from transformers import AutoModelForCausalLM

    if attn_implementation == "auto":
        config = load_config(path, trust_remote_code=trust_remote_code)
        attn_implementation = choose_attention(config)

    with _errors_name_the_setting("model", path):
        model, found = AutoModelForCausalLM.from_pretrained(
            str(path),
            trust_remote_code=trust_remote_code,
            dtype=dtype,
            attn_implementation=attn_implementation,
            output_loading_info=True,
        )
    _refuse_lacking(found, path)
    _refuse_untied(model, path)
    return model


def _refuse_lacking(found: dict[str, Any], path: Path | str) -> None:
    """Refuses a model that transformers would have filled up with random weights."""
    if missing := sorted(found["missing_keys"]):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(
            f"language_model.name={str(path)!r}: its files lack the weights {missing[0]}{more}: "
            "they would be random; complete the files, or set tie_word_embeddings in config.json "
            "to what they are"
        )


def _refuse_untied(model: PreTrainedModel, path: Path | str) -> None:
    """Refuses a model whose files and configuration differ on whether embeddings are shared.

    Transformers follows the files then, and vLLM the configuration: they would be two models.
    """
    says_tied = model.config.get_text_config().tie_word_embeddings
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    if says_tied and outputs is not None and inputs.weight is not outputs.weight:
        raise ValueError(
            f"language_model.name={str(path)!r}: config.json says tie_word_embeddings=true, but "
            "its files hold an output projection that differs from the embeddings: set it to "
            "false, or take that projection out of the files"
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
