"""The tiny model: how it is made, and what it knows."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from rllib_dapo.envs.arithmetic import ArithmeticEnv
from rllib_dapo.models import load_causal_lm, load_tokenizer, resolve_model
from rllib_dapo.models.tiny import CHARACTERS, TinyRecipe, tiny_model, warm_up_records

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHORT = TinyRecipe(steps=3, batch_size=8)


@pytest.fixture(scope="session")
def tiny(cache_dir: Path) -> Path:
    return Path(resolve_model("tiny", cache_dir=cache_dir))


def test_the_tiny_model_is_a_function_of_its_seed(tmp_path: Path) -> None:
    first = load_file(tiny_model(SHORT, cache_dir=tmp_path / "a") / "model.safetensors")
    again = load_file(tiny_model(SHORT, cache_dir=tmp_path / "b") / "model.safetensors")
    other = load_file(
        tiny_model(dataclasses.replace(SHORT, seed=1), cache_dir=tmp_path / "b")
        / "model.safetensors"
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if "proj" in name)


def test_every_change_of_the_recipe_makes_another_folder() -> None:
    fields = dataclasses.fields(TinyRecipe)
    changed = [
        dataclasses.replace(SHORT, **{field.name: getattr(SHORT, field.name) + 1})
        for field in fields
    ]
    assert len({recipe.folder_name() for recipe in (SHORT, *changed)}) == len(fields) + 1


def test_making_the_tiny_model_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    tiny_model(SHORT, cache_dir=tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_tiny_tokenizer_gives_back_every_character(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer(CHARACTERS, add_special_tokens=False)["input_ids"]
    assert len(ids) == len(CHARACTERS) == 96
    assert tokenizer.decode(ids) == CHARACTERS
    assert tokenizer.convert_ids_to_tokens(
        tokenizer("é", add_special_tokens=False)["input_ids"]
    ) == ["<unk>"]


def test_the_chat_template_ends_what_the_assistant_said(tokenizer: PreTrainedTokenizerBase) -> None:
    messages = [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": "2"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "<bos>1+1=2<eos>"


def test_the_warm_up_sees_no_held_out_problem() -> None:
    recipe = TinyRecipe()
    heldout = ArithmeticEnv({"max_operand": recipe.max_operand, "split": "heldout"})
    prompts = {prompt for prompt, _ in islice(warm_up_records(recipe), 5_000)}
    assert len(prompts) > 1_500
    assert prompts.isdisjoint(heldout.problem(seed).prompt for seed in range(1_000))


def test_every_warm_up_record_is_right() -> None:
    records = list(islice(warm_up_records(TinyRecipe()), 500))
    assert [str(sum(map(int, prompt[:-1].split("+")))) for prompt, _ in records] == [
        answer for _, answer in records
    ]


@pytest.mark.slow
def test_the_tiny_model_is_right_on_some_but_not_most_problems(tiny: Path) -> None:
    tokenizer, model = load_tokenizer(tiny), load_causal_lm(tiny, dtype=torch.float32)
    env = ArithmeticEnv({"max_operand": TinyRecipe().max_operand, "split": "heldout"})
    problems = [env.problem(seed) for seed in range(400)]
    batch = tokenizer(
        [problem.prompt for problem in problems],
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        output = model.generate(
            batch["input_ids"],
            attention_mask=batch["attention_mask"],
            do_sample=True,
            temperature=1.0,
            top_k=0,
            max_new_tokens=6,
        )
    responses = tokenizer.batch_decode(
        output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
    )
    verdicts = [
        env.score(problem, response) for problem, response in zip(problems, responses, strict=True)
    ]
    assert 0.1 <= sum(bool(verdict.is_correct) for verdict in verdicts) / len(verdicts) <= 0.5
