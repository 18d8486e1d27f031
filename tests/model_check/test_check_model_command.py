"""`rllib-dapo check-model` names what is wrong with anybody's model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import processors
from transformers import AutoTokenizer
from typer.testing import CliRunner

from rllib_dapo.cli import app

ModelFolder = Callable[..., Path]


def check(folder: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["check-model", str(folder), *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout


def edit(file: Path, **changes: Any) -> None:
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**content, **changes}))


def test_a_sound_model_passes(model_folder: ModelFolder) -> None:
    code, text = check(model_folder())
    assert code == 0, text
    assert "it can be trained" in text
    assert "refused" not in text


# One fault each: how it is planted, whether it is refused, and what names it.


def untied_head(make: ModelFolder) -> Path:
    folder = make(tie_word_embeddings=True)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = torch.ones_like(weights["model.embed_tokens.weight"])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def lacking_head(make: ModelFolder) -> Path:
    folder = make(tie_word_embeddings=True)
    edit(folder / "config.json", tie_word_embeddings=False)
    return folder


def template_without_text(make: ModelFolder) -> Path:
    folder = make()
    (folder / "chat_template.jinja").write_text("{% for m in messages %}<bos>{% endfor %}")
    return folder


def large_tokenizer(make: ModelFolder) -> Path:
    folder = make(vocab_size=100)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["seven"])
    tokenizer.save_pretrained(folder)
    return folder


def short_window(make: ModelFolder) -> Path:
    return make("Mistral", sliding_window=8)


def broken_generation_config(make: ModelFolder) -> Path:
    folder = make()
    edit(folder / "generation_config.json", temperature=0.6, top_p=0.9)
    return folder


def capped_logits(make: ModelFolder) -> Path:
    return make("Gemma2", final_logit_softcapping=3.0, attn_logit_softcapping=None)


def few_positions(make: ModelFolder) -> Path:
    return make(max_position_embeddings=16)


def appended_end(make: ModelFolder) -> Path:
    folder = make()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 2)]
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("plant", "is_refused", "said"),
    [
        (untied_head, True, "tie_word_embeddings=true"),
        (lacking_head, True, "lack the weights lm_head.weight"),
        (template_without_text, True, "does not hold the text"),
        (large_tokenizer, True, "'seven' (id 100)"),
        (short_window, False, "the window of 8 tokens"),
        (broken_generation_config, False, "would refuse to write generation_config.json"),
        (capped_logits, False, "a cap of 3"),
        (few_positions, True, "max_position_embeddings=16"),
        (appended_end, False, "appends '<eos>'"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_planted_fault_is_named(
    model_folder: ModelFolder, plant: Callable[[ModelFolder], Path], is_refused: bool, said: str
) -> None:
    code, text = check(plant(model_folder))
    assert said in text, text
    assert (code, "refused" in text) == (int(is_refused), is_refused), text


def test_lengths_of_a_run_are_held_against_the_positions(model_folder: ModelFolder) -> None:
    folder = model_folder()
    code, text = check(folder, "--set", "rollout.max_response_tokens=4096")
    assert code == 1
    assert "rollout.max_response_tokens=4096" in text
    lengths = ("rollout.max_prompt_tokens=100", "rollout.max_response_tokens=156")
    code, text = check(folder, "--set", lengths[0], "--set", lengths[1])
    assert (code, "256, enough for" in text) == (0, True)


def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check-model", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1].startswith("language_model.name=")
