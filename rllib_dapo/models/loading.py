"""Loads models, their configurations and tokenizers, from a folder or by a hub name."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rllib_dapo.models.attention import choose_attention
from rllib_dapo.models.block_attention import register_block_attention
from rllib_dapo.models.template_settings import use_template_settings
from rllib_dapo.models.weight_by_weight import (
    WeightTaker,
    files_of_index,
    unread_tensors,
    weights_taken,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# The file with a model's EOS ids, and with the sampling that its authors recommend.
GENERATION_CONFIG = "generation_config.json"


def load_tokenizer(
    path: Path | str, *, trust_remote_code: bool = False, **template_settings: Any
) -> PreTrainedTokenizerBase:
    """Loads a tokenizer.

    Args:
        path: A model folder or a hub name.
        trust_remote_code: Whether code that comes with the model may run.
        **template_settings: `chat_template` and `chat_template_kwargs`, see
            `use_template_settings`.

    Raises:
        ValueError: If it does not load, with transformers' own error as the cause, or if the
            settings of its template are refused; one line.
    """
    from transformers import AutoTokenizer

    with _errors_name_the_setting("tokenizer", path):
        # Mistral's own library would be chosen where it is installed and a tekken.json lies beside
        # the tokenizer.json. It takes no chat template, and does not tell its control tokens.
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(path), trust_remote_code=trust_remote_code, mistral_format=False
        )
    use_template_settings(tokenizer, **template_settings)
    return tokenizer


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
    taker: WeightTaker | None = None,
) -> PreTrainedModel:
    """Loads a causal language model onto the CPU.

    Args:
        path: A model folder or a hub name.
        dtype: Type of the parameters, such as `torch.float32` or `"bfloat16"`; the files may hold
            another one.
        trust_remote_code: Whether code that comes with the model may run.
        attn_implementation: Transformers' name of the attention to use; `"auto"` takes the fastest
            one that computes what this model is.
        taker: Takes each weight as soon as it has been read, so that the whole model is never in
            memory; None keeps them.

    Raises:
        ValueError: If it does not load, or if its files lack weights that it needs; one line, with
            transformers' own error, where there is one, as the cause.
    """
    if attn_implementation == "auto":
        config = load_config(path, trust_remote_code=trust_remote_code)
        attn_implementation = choose_attention(config)

    register_block_attention()
    how: dict[str, Any] = {
        "trust_remote_code": trust_remote_code,
        "dtype": dtype,
        "attn_implementation": attn_implementation,
    }
    with _errors_name_the_setting("model", path):
        if taker is None:
            model, found, differ = *_load_whole(path, **how), None
        else:
            model, found, differ = _load_weight_by_weight(path, taker, **how)

    _refuse_lacking(found, path)
    _refuse_untied(model, path)
    _refuse_differing(differ, path)
    return model


def _load_whole(path: Path | str, **how: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model, and what transformers found of it in its files."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(path), output_loading_info=True, **how)


def _load_weight_by_weight(
    path: Path | str, taker: WeightTaker, *, trust_remote_code: bool, **how: Any
) -> tuple[PreTrainedModel, dict[str, Any], tuple[str, str] | None]:
    """The same, and the names of weights that are to be shared and differ in the files."""
    import torch
    from transformers import AutoModelForCausalLM

    config = load_config(path, trust_remote_code=trust_remote_code)
    files = _safetensors_files(path, config)
    with weights_taken(taker) as taken:
        if not files:
            model, found = _load_whole(path, trust_remote_code=trust_remote_code, **how)
            return model, found, taken.tied_in_vain(model)

        # Transformers takes tensors in place of a path, but then it wants the class itself.
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(
                config, trust_remote_code=trust_remote_code, **how
            )
        with unread_tensors(files) as tensors:
            model, found = type(empty).from_pretrained(
                None, config=empty.config, state_dict=tensors, output_loading_info=True, **how
            )
        return model, found, taken.tied_in_vain(model)


def _safetensors_files(path: Path | str, config: PreTrainedConfig) -> list[str]:
    """A model's weight files; empty where transformers finds them in a way of its own."""
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

    own_ways = ("transformers_weights", "quantization_config")
    if any(getattr(config, name, None) is not None for name in own_ways):
        return []
    if (file := model_file(path, SAFE_WEIGHTS_NAME)) is not None:
        return [file]
    if (index := model_file(path, SAFE_WEIGHTS_INDEX_NAME)) is None:
        return []

    files = [model_file(path, name) for name in files_of_index(index)]
    return [] if None in files else [file for file in files if file is not None]


def _refuse_lacking(found: dict[str, Any], path: Path | str) -> None:
    """Refuses a model that transformers would have filled up with random weights."""
    if missing := sorted(found["missing_keys"]):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(
            f"language_model.name={str(path)!r}: its files lack the weights {missing[0]}{more}: "
            "they would be random; complete the files, or set tie_word_embeddings in config.json "
            "to what they are"
        )


def _refuse_differing(names: tuple[str, str] | None, path: Path | str) -> None:
    """The same, where the model has been sharded and shares what its files have twice."""
    if names is not None:
        raise ValueError(
            f"language_model.name={str(path)!r}: config.json says that {names[0]} is {names[1]} "
            "(tie_word_embeddings=true), but its files hold both, and they differ: set it to "
            "false, or take one out of the files"
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
