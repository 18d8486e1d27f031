"""Models and tokenizers that do not load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rllib_dapo.models import load_causal_lm, load_tokenizer


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
