"""Weights on disk: reading them."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rllib_dapo.learner.model_folder import VALUE_HEAD_FOLDER, read_weights, write_weights
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


def test_a_value_heads_weights_are_read_with_a_prefix(tmp_path: Path) -> None:
    save_file({"model.norm.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / VALUE_HEAD_FOLDER).mkdir()
    save_file({"bias": torch.zeros(1)}, tmp_path / VALUE_HEAD_FOLDER / "model.safetensors")
    assert read_weights(tmp_path).keys() == {"model.norm.weight", "value_head.bias"}


# Writing them


def test_weights_lie_in_files_of_bounded_size_that_transformers_reads(
    raw_model: Path, tmp_path: Path
) -> None:
    weights = read_weights(raw_model)
    shutil.copy(raw_model / "config.json", tmp_path)
    write_weights(tmp_path, weights.items(), max_bytes=100_000)

    files = sorted(tmp_path.glob("*.safetensors"))
    assert files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    assert len(files) > 2
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in weights.values())
    assert index["weight_map"].keys() == weights.keys()

    expected = load_causal_lm(raw_model, dtype=torch.float32).state_dict()
    found = load_causal_lm(tmp_path, dtype=torch.float32).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_what_fits_into_one_file_lies_in_one_and_older_files_go(tmp_path: Path) -> None:
    write_weights(tmp_path, [("a", torch.ones(9)), ("b", torch.ones(9))], max_bytes=8)
    assert len(list(tmp_path.iterdir())) == 3
    write_weights(tmp_path, [("c", torch.zeros(2))])
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    assert read_weights(tmp_path).keys() == {"c"}


def test_weights_are_made_one_file_at_a_time(tmp_path: Path) -> None:
    """What is written already is gone before the next file's weights are made."""
    made: list[weakref.ref[torch.Tensor]] = []
    alive = []

    def weights() -> Iterator[tuple[str, torch.Tensor]]:
        for i in range(8):
            alive.append(sum(tensor() is not None for tensor in made))
            tensor = torch.full((4,), float(i))
            made.append(weakref.ref(tensor))
            yield f"weight{i}", tensor
            del tensor

    write_weights(tmp_path, weights(), max_bytes=2 * 16)
    assert max(alive) <= 2
    assert len(read_weights(tmp_path)) == 8
