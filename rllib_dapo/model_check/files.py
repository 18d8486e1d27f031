"""What a model's files say before any weight is loaded: sizes, ids, tokenizer, template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rllib_dapo.model_check.later_turns import check_earlier_turns, check_later_turns
from rllib_dapo.model_check.model_report import ModelFinding
from rllib_dapo.model_check.router_loss import check_router_loss
from rllib_dapo.model_check.sizes import Lengths, check_positions, check_vocabulary
from rllib_dapo.model_check.template_text import holds, known_part
from rllib_dapo.models import (
    GENERATION_CONFIG,
    appends_end,
    load_config,
    load_tokenizer,
    model_file,
    prompt_token_ids,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

# A prompt as environments write them: letters, digits, signs, several lines.
PROMPT_TEXT = "What is 12+34=? Write x^2 and 'y'.\nSecond line"


def check_files(
    model: str,
    *,
    lengths: Lengths | None,
    max_turns: int,
    system_prompt: str = "",
    **tokenizer_settings: Any,
) -> list[ModelFinding]:
    """Checks what can be known without the weights.

    Args:
        model: A model folder or a hub name.
        lengths: How long sequences get; None if that is not known yet.
        max_turns: Number of responses in an episode at most. Where it is 1, a template need not
            keep what comes after the first response.
        system_prompt: System message in front of prompts; `""` if there is none.
        **tokenizer_settings: Arguments of `load_tokenizer`.

    Returns:
        Findings on the tokenizer, positions, ids, the template and the generation configuration.

    Raises:
        ValueError: If configuration or tokenizer do not load.
    """
    trust_remote_code = tokenizer_settings.get("trust_remote_code", False)
    config = load_config(model, trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(model, **tokenizer_settings)
    text_config = config.get_text_config()

    return [
        check_vocabulary(tokenizer.get_vocab(), text_config.vocab_size),
        check_positions(text_config.to_dict() | _under_usual_names(text_config), lengths),
        *check_router_loss(text_config.to_dict()),
        *_check_generation_config(model, text_config, tokenizer),
        _check_encoding(tokenizer),
        _check_prompt(tokenizer),
        *check_system_prompt(tokenizer, system_prompt),
        check_later_turns(tokenizer, is_needed=max_turns > 1),
        check_earlier_turns(tokenizer),
    ]


def _under_usual_names(config: PreTrainedConfig) -> dict[str, Any]:
    """The number of positions, which some models call otherwise, under its usual name."""
    longest = getattr(config, "max_position_embeddings", None)
    return {} if longest is None else {"max_position_embeddings": longest}


def _check_generation_config(
    model: str, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> Iterator[ModelFinding]:
    """The ids that end a response, and the sampling that the model's authors recommend."""
    settings: dict[str, Any] = {}
    file = model_file(model, GENERATION_CONFIG)
    if file is not None:
        try:
            with open(file, encoding="utf-8") as stream:
                settings = json.load(stream)
            if not isinstance(settings, dict):
                raise ValueError("it holds no settings by name")
        except ValueError as error:
            yield ModelFinding(
                check="generation config",
                verdict="refused",
                detail=f"{GENERATION_CONFIG} cannot be read ({error}): mend or remove it",
            )
            return

    yield _check_end(settings, config, tokenizer)
    if file is not None:
        yield _check_recommendations(settings)


def _check_end(
    settings: dict[str, Any], config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> ModelFinding:
    ids = settings.get("eos_token_id", getattr(config, "eos_token_id", None))
    ends = [ids] if isinstance(ids, int) else list(ids or [])
    wrong = [index for index in ends if not 0 <= index < config.vocab_size]
    if wrong:
        return ModelFinding(
            check="end of a response",
            verdict="refused",
            detail=f"eos_token_id={wrong[0]} is not in the vocabulary of {config.vocab_size} "
            f"tokens: set it in {GENERATION_CONFIG}",
        )
    if not ends:
        return ModelFinding(
            check="end of a response",
            verdict="note",
            detail="the model names no eos_token_id, so every response goes on to the limit: set "
            f"it in {GENERATION_CONFIG}",
        )

    names = ", ".join(f"{tokenizer.convert_ids_to_tokens(index)!r} ({index})" for index in ends)
    ended = tokenizer.eos_token_id
    if ended is not None and ended not in ends:
        return ModelFinding(
            check="end of a response",
            verdict="note",
            detail=f"a response ends with {names}, but the tokenizer's own end is "
            f"{tokenizer.eos_token!r} ({ended}): add it to eos_token_id in {GENERATION_CONFIG} if "
            "the model writes it",
        )
    return ModelFinding(check="end of a response", verdict="right", detail=names)


def _check_recommendations(settings: dict[str, Any]) -> ModelFinding:
    """No sampling of the model's files reaches an engine; transformers may not write it either."""
    from transformers import GenerationConfig

    neutral = GenerationConfig()
    recommended = sorted(
        name
        for name, value in settings.items()
        if name in _SAMPLING and value not in (None, getattr(neutral, name, None), *_OFF[name])
    )
    try:
        GenerationConfig(**settings).validate(strict=True)
    except ValueError as error:
        reason = " ".join(str(error).split())[:160]
        return ModelFinding(
            check="generation config",
            verdict="note",
            detail=f"transformers would refuse to write {GENERATION_CONFIG} ({reason}): "
            "checkpoints copy it as it is, and its sampling is not used",
        )

    if recommended:
        given = ", ".join(f"{name}={settings[name]}" for name in recommended)
        return ModelFinding(
            check="generation config",
            verdict="note",
            detail=f"its {given} are not used: a run samples as rollout.* and evaluation.* say",
        )
    return ModelFinding(check="generation config", verdict="right", detail="names no sampling")


# Settings of a generation configuration that change the distribution of tokens, and the values
# that leave it alone.
_OFF: dict[str, tuple[Any, ...]] = {
    "temperature": (1.0,),
    "top_p": (1.0,),
    "top_k": (0, -1),
    "min_p": (0.0,),
    "typical_p": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "no_repeat_ngram_size": (0,),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ({},),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "guidance_scale": (1.0,),
}
_SAMPLING = frozenset(_OFF)


def _check_prompt(tokenizer: PreTrainedTokenizerBase) -> ModelFinding:
    """The prompt's ids must hold the text that went in."""
    text = known_part(PROMPT_TEXT, tokenizer)
    try:
        ids = prompt_token_ids(tokenizer, text)
        rendered = str(tokenizer.decode(ids))
    except Exception as error:  # a template may raise anything
        ids, rendered = [], f"{type(error).__name__}: {error}"

    if not ids or not holds(rendered, text):
        return ModelFinding(
            check="chat template",
            verdict="refused",
            detail=f"the prompt does not hold the text that went in: {text[:20]!r} becomes "
            f"{rendered[:80]!r}; mend chat_template",
        )
    if tokenizer.chat_template:
        return ModelFinding(
            check="chat template", verdict="right", detail=f"{len(ids)} tokens, the text among them"
        )
    return ModelFinding(
        check="chat template", verdict="note", detail="none: prompts are encoded as they stand"
    )


def check_system_prompt(
    tokenizer: PreTrainedTokenizerBase, system_prompt: str
) -> Iterator[ModelFinding]:
    """Whether the template has a place for the run's system message.

    Args:
        tokenizer: The model's tokenizer.
        system_prompt: The setting; nothing is found where it is `""`.
    """
    if not system_prompt:
        return
    try:
        ids = prompt_token_ids(tokenizer, PROMPT_TEXT, system_prompt=system_prompt)
    except ValueError as error:
        yield ModelFinding(
            check="system prompt",
            verdict="refused",
            detail=f"language_model.system_prompt={_start(system_prompt)!r}: {error}; leave it out",
        )
        return
    more = len(ids) - len(prompt_token_ids(tokenizer, PROMPT_TEXT))
    yield ModelFinding(
        check="system prompt", verdict="right", detail=f"{more} tokens in front of every prompt"
    )


def _start(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _check_encoding(tokenizer: PreTrainedTokenizerBase) -> ModelFinding:
    """Whether the tokenizer ends every text, as those of encoders do."""
    if appends_end(tokenizer):
        return ModelFinding(
            check="tokenizer",
            verdict="note",
            detail=f"it appends {tokenizer.eos_token!r} to every text; prompts are made without it",
        )
    return ModelFinding(
        check="tokenizer", verdict="right", detail=f"{type(tokenizer).__name__}, appends no end"
    )
