"""The tiny model that has seen a calculator: what it is trained on."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from rllib_dapo.models import observation_token_ids, prompt_token_ids
from rllib_dapo.models.tiny import _tensors
from rllib_dapo.models.tiny_calculator import CalculatorRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def test_records_with_a_calculator_are_right_and_only_some_call_it() -> None:
    records = list(islice(CalculatorRecipe().records(), 500))
    calls = [record for record in records if len(record) == 4]
    assert 0.3 < len(calls) / len(records) < 0.5
    for prompt, *_, answer in records:
        first, second = prompt.removesuffix("=").split("*")
        assert int(answer) == int(first) * int(second)
    assert all(
        (call, result) == (f"[{prompt[:-1]}]", f"{answer}=")
        for prompt, call, result, answer in calls
    )


def test_turns_are_learnt_from_as_a_rollout_puts_them_behind_each_other(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    ids, is_response = _tensors(
        [("3*4=", "[3*4]", "12=", "12"), ("1*1=", "1")], tokenizer, CalculatorRecipe()
    )
    assert tokenizer.decode(ids[0]) == "<bos>3*4=[3*4]<eos>12=12<eos>"
    assert tokenizer.decode(ids[0][is_response[0]]) == "[3*4]<eos>12<eos>"
    assert tokenizer.decode(ids[1][is_response[1]]) == "1<eos>"
    call = tokenizer("[3*4]<eos>", add_special_tokens=False)["input_ids"]
    sent = (
        prompt_token_ids(tokenizer, "3*4=")
        + call
        + observation_token_ids(tokenizer, "12=", after=call[-1])
    )
    assert ids[0][: len(sent)].tolist() == sent
