"""Weights on disk: reading them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rllib_dapo.learner.model_folder import VALUE_HEAD_FOLDER, read_weights


def test_weights_are_read_from_any_number_of_files(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "model-00002-of-00002.safetensors")
    weights = read_weights(tmp_path)
    assert {name: tensor.tolist() for name, tensor in weights.items()} == {
        "a": [1, 1],
        "b": [0, 0, 0],
    }


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"no \*\.safetensors in {tmp_path}"):
        read_weights(tmp_path)


def test_a_value_heads_weights_are_read_with_a_prefix(tmp_path: Path) -> None:
    save_file({"model.norm.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / VALUE_HEAD_FOLDER).mkdir()
    save_file({"bias": torch.zeros(1)}, tmp_path / VALUE_HEAD_FOLDER / "model.safetensors")
    assert read_weights(tmp_path).keys() == {"model.norm.weight", "value_head.bias"}
