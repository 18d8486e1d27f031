"""Weights on disk: reading them, and loading them into a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rllib_dapo.learner.model_folder import VALUE_HEAD_FOLDER, load_weights, read_weights
from rllib_dapo.models import load_causal_lm


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


def test_tied_weights_may_be_left_out(raw_model: Path, other_raw_model: Path) -> None:
    model = load_causal_lm(raw_model, dtype=torch.float32)
    weights = read_weights(other_raw_model)
    assert "lm_head.weight" not in weights
    load_weights(model, weights)
    expected = load_causal_lm(other_raw_model, dtype=torch.float32).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("removed", "added", "said"),
    [
        (
            "model.norm.weight",
            {},
            r"missing \['model\.norm\.weight'\], unknown \[\], of another shape \[\]",
        ),
        (
            None,
            {"model.x.weight": 1},
            r"missing \[\], unknown \['model\.x\.weight'\], of another shape \[\]",
        ),
        (
            None,
            {"model.norm.weight": 7},
            r"missing \[\], unknown \[\], of another shape \['model\.norm\.weight'\]",
        ),
    ],
)
def test_weights_of_another_model_are_refused_by_name_and_none_is_taken(
    raw_model: Path, other_raw_model: Path, removed: str | None, added: dict[str, int], said: str
) -> None:
    model = load_causal_lm(raw_model, dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = {
        name: tensor for name, tensor in read_weights(other_raw_model).items() if name != removed
    }
    with pytest.raises(ValueError, match="^these weights belong to another model: " + said + "$"):
        load_weights(model, weights | {name: torch.zeros(size) for name, size in added.items()})
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_value_heads_weights_are_read_with_a_prefix(tmp_path: Path) -> None:
    save_file({"model.norm.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / VALUE_HEAD_FOLDER).mkdir()
    save_file({"bias": torch.zeros(1)}, tmp_path / VALUE_HEAD_FOLDER / "model.safetensors")
    assert read_weights(tmp_path).keys() == {"model.norm.weight", "value_head.bias"}
