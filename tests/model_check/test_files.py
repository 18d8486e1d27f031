"""What a model's files say, before any weight is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors
from transformers import AutoTokenizer, LlamaConfig, MambaConfig, PretrainedConfig

from rllib_dapo import DAPOConfig
from rllib_dapo.model_check.check_model import ModelCheck
from rllib_dapo.model_check.files import check_files
from rllib_dapo.model_check.model_report import ModelFinding, refuse
from rllib_dapo.model_check.sizes import Lengths, position_limit
from rllib_dapo.models import prompt_token_ids
from rllib_dapo.models.tiny import make_tokenizer

ModelFolder = Callable[..., Path]


def findings(
    folder: Path, *, max_turns: int = 1, lengths: Lengths | None = None
) -> dict[str, ModelFinding]:
    found = check_files(str(folder), trust_remote_code=False, lengths=lengths, max_turns=max_turns)
    return {finding.check: finding for finding in found}


def edit_json(file: Path, **changes: Any) -> None:
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**content, **changes}))


def test_a_sound_model_has_nothing_to_refuse(model_folder: ModelFolder) -> None:
    found = findings(model_folder())
    assert {finding.verdict for finding in found.values()} == {"right"}
    refuse(found.values(), model="mine")


@pytest.mark.parametrize("special", [False, True])
def test_a_tokenizer_larger_than_the_model_is_refused(
    model_folder: ModelFolder, special: bool
) -> None:
    folder = model_folder(vocab_size=104)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"word{i}" for i in range(10)], special_tokens=special)
    tokenizer.save_pretrained(folder)

    finding = findings(folder)["vocabulary"]
    assert finding.verdict == "refused"
    assert "6 tokens that the model does not know" in finding.detail
    assert "'word4' (id 104)" in finding.detail
    assert "vocab_size=104" in finding.detail
    with pytest.raises(ValueError, match=r"language_model\.name='mine': vocabulary: ") as caught:
        refuse([finding], model="mine")
    assert "\n" not in str(caught.value)


def test_placeholders_of_images_are_no_words(model_folder: ModelFolder) -> None:
    folder = model_folder(vocab_size=100)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<image_soft_token>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    assert findings(folder)["vocabulary"].verdict == "right"


@pytest.mark.parametrize(
    ("prompt", "response", "verdict"),
    [(56, 200, "right"), (57, 200, "refused"), (1, 256, "refused")],
)
def test_positions_must_hold_prompt_and_response(
    model_folder: ModelFolder, prompt: int, response: int, verdict: str
) -> None:
    lengths = Lengths(max_prompt_tokens=prompt, max_response_tokens=response)
    finding = findings(model_folder(), lengths=lengths)["positions"]
    assert finding.verdict == verdict
    assert f"rollout.max_prompt_tokens={prompt}" in finding.detail
    assert f"rollout.max_response_tokens={response}" in finding.detail
    assert "256" in finding.detail


def test_without_lengths_positions_are_told_and_too_few_are_refused(
    model_folder: ModelFolder,
) -> None:
    assert findings(model_folder())["positions"].detail.startswith("256")
    finding = findings(model_folder(max_position_embeddings=8))["positions"]
    assert (finding.verdict, "max_position_embeddings=8" in finding.detail) == ("refused", True)


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        (LlamaConfig(max_position_embeddings=128), 128),
        (
            LlamaConfig(
                max_position_embeddings=128,
                rope_parameters={
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 100,
                    "rope_theta": 10_000.0,
                },
            ),
            400,
        ),
        (MambaConfig(), None),
    ],
)
def test_the_number_of_positions(config: PretrainedConfig, limit: int | None) -> None:
    assert position_limit(config.to_dict()) == limit


@pytest.mark.parametrize(
    ("eos", "verdict", "said"),
    [
        (2, "right", "'<eos>' (2)"),
        ([2, 5], "right", "(5)"),
        (128, "refused", "eos_token_id=128 is not in the vocabulary of 128"),
        ([2, -1], "refused", "eos_token_id=-1"),
        (7, "note", "the tokenizer's own end is '<eos>' (2)"),
        (None, "note", "names no eos_token_id"),
    ],
)
def test_the_ids_that_end_a_response(
    model_folder: ModelFolder, eos: Any, verdict: str, said: str
) -> None:
    folder = model_folder()
    edit_json(folder / "config.json", eos_token_id=None)
    edit_json(folder / "generation_config.json", eos_token_id=eos)
    finding = findings(folder)["end of a response"]
    assert finding.verdict == verdict
    assert said in finding.detail


@pytest.mark.parametrize(
    ("settings", "verdict", "said"),
    [
        ({}, "right", "no sampling"),
        ({"do_sample": True, "temperature": 1.0, "top_k": 0}, "right", "no sampling"),
        ({"temperature": 0.6, "top_p": 0.9}, "note", "would refuse to write"),
        ({"do_sample": True, "temperature": 0.6}, "note", "temperature=0.6"),
        ({"repetition_penalty": 1.3}, "note", "repetition_penalty=1.3"),
        ({"min_new_tokens": 3}, "note", "min_new_tokens=3"),
    ],
    ids=str,
)
def test_sampling_that_a_models_authors_recommend_is_named(
    model_folder: ModelFolder, settings: dict[str, Any], verdict: str, said: str
) -> None:
    folder = model_folder()
    edit_json(folder / "generation_config.json", **settings)
    finding = findings(folder)["generation config"]
    assert (finding.verdict, said in finding.detail) == (verdict, True)


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_a_generation_config_that_cannot_be_read_is_refused(
    model_folder: ModelFolder, text: str
) -> None:
    folder = model_folder()
    (folder / "generation_config.json").write_text(text, encoding="latin-1")
    finding = findings(folder)["generation config"]
    assert finding.verdict == "refused"
    assert "mend or remove it" in finding.detail


DROPS_TEXT = "{% for m in messages %}<bos>{{ m['role'] }}{% endfor %}"
WANTS_PARTS = (
    "{% for m in messages %}{% for part in m['content'] %}{% if part.type == 'text' %}"
    "{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
)
RAISES = "{{ raise_exception('no user speaks here') }}"
FIRST_ONLY = "{{ messages[0]['content'] }}"


@pytest.mark.parametrize("template", [DROPS_TEXT, WANTS_PARTS, RAISES])
def test_a_template_without_the_text_is_refused(model_folder: ModelFolder, template: str) -> None:
    folder = model_folder()
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    finding = findings(folder)["chat template"]
    assert finding.verdict == "refused"
    assert "mend chat_template" in finding.detail


@pytest.mark.parametrize(("max_turns", "verdict"), [(1, "note"), (2, "refused")])
def test_a_template_without_later_turns_suits_environments_of_one_turn(
    model_folder: ModelFolder, max_turns: int, verdict: str
) -> None:
    folder = model_folder()
    tokenizer = make_tokenizer()
    tokenizer.chat_template = FIRST_ONLY
    tokenizer.save_pretrained(folder)
    found = findings(folder, max_turns=max_turns)
    assert found["chat template"].verdict == "right"
    assert found["later turns"].verdict == verdict
    assert "rollout.max_turns" in found["later turns"].detail


def test_an_end_that_the_tokenizer_appends_is_left_out_and_named(
    model_folder: ModelFolder,
) -> None:
    folder = model_folder()
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    before = prompt_token_ids(tokenizer, "1+1=")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink()

    again = AutoTokenizer.from_pretrained(folder)
    assert again("1+1=")["input_ids"][-1] == again.eos_token_id
    assert prompt_token_ids(again, "1+1=") == before
    finding = findings(folder)["tokenizer"]
    assert (finding.verdict, "appends '<eos>'" in finding.detail) == ("note", True)


NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}{{ m['content'] }}{% endfor %}"
)
DROPS_SYSTEM = "{% for m in messages if m.role != 'system' %}{{ m['content'] }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (NO_SYSTEM, "takes no conversation of the roles system, user: TemplateError: no system"),
        (DROPS_SYSTEM, "does not keep what a message of the role system says"),
        (None, "has no chat template"),
    ],
)
def test_a_system_prompt_without_a_place_is_refused_before_anything_is_loaded(
    model_folder: ModelFolder, template: str | None, said: str
) -> None:
    folder = model_folder()
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    (folder / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(folder)
    config = DAPOConfig().language_model(str(folder), system_prompt="be brief")
    config.rollout(max_prompt_tokens=8, max_response_tokens=8)

    with pytest.raises(ValueError, match=r"language_model.system_prompt='be brief'") as raised:
        ModelCheck(config)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    ModelCheck(config.language_model(system_prompt=""))


def test_a_system_prompt_with_a_place_is_told(model_folder: ModelFolder) -> None:
    found = check_files(
        str(model_folder()),
        trust_remote_code=False,
        lengths=None,
        max_turns=1,
        system_prompt="be brief",
    )
    (finding,) = (finding for finding in found if finding.check == "system prompt")
    assert (finding.verdict, finding.detail) == ("right", "8 tokens in front of every prompt")


def test_a_router_loss_that_a_mixture_asks_for_is_told(model_folder: ModelFolder) -> None:
    folder = model_folder("Qwen3Moe", num_experts=4, num_experts_per_tok=2)
    assert "router loss" not in findings(folder)
    edit_json(folder / "config.json", output_router_logits=True, router_aux_loss_coef=0.01)
    found = findings(folder)["router loss"]
    assert found.verdict == "note"
    assert "router_aux_loss_coef: 0.01), and training has none" in found.detail
