"""Conversations that are to be learnt: the ids of a rollout, with loss on the policy's turns."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from rllib_dapo.envs.messages import Message
from rllib_dapo.models.supervised_tokens import (
    end_of_turn_id,
    response_token_ids,
    supervised_tokens,
)
from rllib_dapo.models.tiny import make_tokenizer

CHAT_ML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONVERSATION = [
    {"role": "system", "content": "Add."},
    {"role": "user", "content": "1+1="},
    {"role": "assistant", "content": "3"},
    {"role": "user", "content": "Again."},
    {"role": "assistant", "content": "2"},
]


@pytest.fixture(scope="module")
def chat_ml() -> PreTrainedTokenizerFast:
    """The tiny model's characters, in the template of Qwen and SmolLM2."""
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = CHAT_ML
    return tokenizer


def _tokens(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]], end_id: int) -> Any:
    said = [Message(**message) for message in messages]
    return supervised_tokens(
        tokenizer,
        tuple(said[:2]),
        (said[2].content, tuple(said[3:4]), said[4].content),
        end_id=end_id,
    )


def test_ids_are_those_of_the_template(chat_ml: PreTrainedTokenizerFast) -> None:
    end = chat_ml.convert_tokens_to_ids("<|im_end|>")
    tokens = _tokens(chat_ml, CONVERSATION, end)

    ids = tokens.prompt_ids + tokens.token_ids
    rendered = chat_ml.apply_chat_template(CONVERSATION, tokenize=True, return_dict=False)
    assert ids == rendered[: len(ids)]
    assert chat_ml.decode(rendered[len(ids) :]) == "\n"  # behind the last turn's end


def test_loss_is_on_the_policys_turns_and_their_ends_alone(
    chat_ml: PreTrainedTokenizerFast,
) -> None:
    end = chat_ml.convert_tokens_to_ids("<|im_end|>")
    tokens = _tokens(chat_ml, CONVERSATION, end)

    learnt = [i for i, has_loss in zip(tokens.token_ids, tokens.loss_mask, strict=True) if has_loss]
    assert chat_ml.decode(learnt) == "3<|im_end|>2<|im_end|>"
    assert chat_ml.decode(tokens.prompt_ids).endswith("<|im_start|>assistant\n")


def test_no_response_frames_a_message_and_any_may_think(chat_ml: PreTrainedTokenizerFast) -> None:
    framing = {chat_ml.convert_tokens_to_ids(name) for name in ("<|im_start|>", "<|im_end|>")}

    forged = response_token_ids(chat_ml, "2<|im_end|>\n<|im_start|>user")
    assert framing.isdisjoint(forged)
    assert chat_ml.decode(forged) == "2<|im_end|>\n<|im_start|>user"
    thought = response_token_ids(chat_ml, "<think>1</think>2")
    assert thought[0] == chat_ml.convert_tokens_to_ids("<think>")
    # Also where the same response would forge a turn.
    both = response_token_ids(chat_ml, "<think>1</think><|im_end|>")
    assert both[0] == thought[0]
    assert framing.isdisjoint(both)


def test_a_turn_ends_as_the_template_has_it_where_engines_stop_there(
    chat_ml: PreTrainedTokenizerFast,
) -> None:
    end = chat_ml.convert_tokens_to_ids("<|im_end|>")

    assert end_of_turn_id(chat_ml, {end}) == end
    assert end_of_turn_id(chat_ml, {end, chat_ml.eos_token_id}) == end
    # As with many base models: the template has a token that their engines go on behind.
    assert end_of_turn_id(chat_ml, {chat_ml.eos_token_id}) == chat_ml.eos_token_id
    with pytest.raises(ValueError, match="no token ends a response"):
        end_of_turn_id(chat_ml, {10**6})


def test_behind_another_end_the_template_still_ends_the_message(
    chat_ml: PreTrainedTokenizerFast,
) -> None:
    tokens = _tokens(chat_ml, CONVERSATION, chat_ml.eos_token_id)

    text = chat_ml.decode(tokens.token_ids)
    assert text.startswith("3<eos><|im_end|>\n<|im_start|>user\nAgain.")


def test_without_a_template_a_turn_ends_with_the_end_of_sequence() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None

    assert end_of_turn_id(tokenizer, {tokenizer.eos_token_id}) == tokenizer.eos_token_id


def test_the_tiny_calculator_learns_calls_and_answers_and_no_results() -> None:
    tokenizer = make_tokenizer()
    end = tokenizer.eos_token_id
    tokens = supervised_tokens(tokenizer, "17*23=", ("[17*23]", "391=", "391"), end_id=end)

    learnt = [i for i, has_loss in zip(tokens.token_ids, tokens.loss_mask, strict=True) if has_loss]
    assert tokenizer.decode(tokens.prompt_ids) == "<bos>17*23="
    assert tokenizer.decode(tokens.token_ids) == "[17*23]<eos>391=391<eos>"
    assert tokenizer.decode(learnt) == "[17*23]<eos>391<eos>"
