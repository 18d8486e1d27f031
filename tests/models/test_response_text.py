"""What rewards and people see of special tokens."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken

from rllib_dapo.models import response_text
from tests.models import many_tokenizers

SAID = "<think>1+1</think><answer>2</answer>"
THINKING = many_tokenizers.CHATML.replace("assistant\n{%", "assistant\n<think>{%")
HURRIED = THINKING.replace("<think>", "<think>\n\n</think>")
# They refuse a conversation that begins otherwise.
SYSTEM_FIRST = "{{ {'system': {}}[messages[0].role].x }}" + many_tokenizers.CHATML
DEVELOPER_FIRST = SYSTEM_FIRST.replace("system", "developer")


@pytest.mark.parametrize(
    "template",
    [many_tokenizers.CHATML, THINKING, HURRIED, SYSTEM_FIRST, DEVELOPER_FIRST, None],
    ids=["chatml", "thinking", "hurried", "system first", "developer first", "none"],
)
@pytest.mark.parametrize("is_special", [True, False])
def test_marks_of_an_answer_are_seen_whether_special_or_not(
    template: str | None, is_special: bool
) -> None:
    tokenizer = many_tokenizers.byte_level(
        template, ["<|im_start|>", "<|im_end|>"], eos_token="<|im_end|>"
    )
    marks = ["<think>", "</think>", "<answer>", "</answer>"]
    tokenizer.add_tokens([AddedToken(mark, special=is_special) for mark in marks])
    ids = tokenizer(f"{SAID}<|im_end|>")["input_ids"]
    assert len([i for i in ids if i in tokenizer.convert_tokens_to_ids(marks)]) == 4

    assert response_text(tokenizer, ids) == SAID
    assert response_text(tokenizer, ids, skip_special_tokens=False) == f"{SAID}<|im_end|>"
    bare = "1+12" if is_special else SAID
    assert response_text(tokenizer, ids, skip_special_tokens=True) == bare


def test_what_frames_messages_is_not_seen() -> None:
    tokenizer = many_tokenizers.llama3_like()
    ids = tokenizer("4<|eot_id|><|start_header_id|>user<|end_header_id|>x<|python_tag|>")
    assert response_text(tokenizer, ids["input_ids"]) == "4userx<|python_tag|>"
    mistral = many_tokenizers.mistral_like()
    ids = mistral("[TOOL_CALLS] 4[INST] 5[/INST]</s>", add_special_tokens=False)["input_ids"]
    assert "INST" not in response_text(mistral, ids)
    assert "[TOOL_CALLS]" in response_text(mistral, ids)


@pytest.mark.parametrize("family", sorted(many_tokenizers.ALL))
def test_a_text_without_special_tokens_reads_as_ever(family: str) -> None:
    tokenizer = many_tokenizers.ALL[family]()
    ids = tokenizer("What is 12+34=? Go on", add_special_tokens=False)["input_ids"]
    ids = [*ids, tokenizer.eos_token_id]
    assert response_text(tokenizer, ids) == tokenizer.decode(ids, skip_special_tokens=True)
