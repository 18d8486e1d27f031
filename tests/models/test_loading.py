"""Models and tokenizers that do not load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import MistralConfig

from rllib_dapo.models import load_causal_lm, load_tokenizer
from rllib_dapo.models.tiny import make_tokenizer


def test_a_folder_that_does_not_load_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(
        ValueError, match=r"language_model\.name=.*the model does not load"
    ) as caught:
        load_causal_lm(tmp_path, dtype=torch.float32)
    assert "\n" not in str(caught.value)
    (tmp_path / "config.json").write_text('{"model_type": "no such type"}')
    with pytest.raises(
        ValueError, match=r"language_model\.name=.*the tokenizer does not load"
    ) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_keeps_its_template_beside_a_file_of_mistrals_library(tmp_path: Path) -> None:
    MistralConfig(num_hidden_layers=1).save_pretrained(tmp_path)
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tekken.json").write_text("{}")
    assert load_tokenizer(tmp_path).chat_template == tokenizer.chat_template
