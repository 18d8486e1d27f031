"""Weights on disk: reading them, and taking a model out of a checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rllib_dapo.learner.weights import MODULE_PATH, export_checkpoint, load_weights, read_weights
from rllib_dapo.models import load_causal_lm

RLLIB_FILES = ["class_and_ctor_args.pkl", "metadata.json", "module_state.pkl"]


@pytest.fixture
def checkpoint(raw_model: Path, tmp_path: Path) -> Path:
    """A checkpoint's folders with a model where RLlib's modules save theirs, and RLlib's own files around it."""
    checkpoint = tmp_path / "checkpoint"
    module = checkpoint / MODULE_PATH
    shutil.copytree(raw_model, module)
    for folder in (checkpoint, module):
        for name in RLLIB_FILES:
            (folder / name).write_bytes(b"what RLlib wrote")
    return checkpoint


def test_an_export_holds_the_model_and_nothing_of_rllib(checkpoint: Path, raw_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exports" / "model"
    assert export_checkpoint(checkpoint, folder) == folder
    assert sorted(file.name for file in folder.iterdir()) == sorted(file.name for file in raw_model.iterdir())
    expected = load_causal_lm(raw_model, dtype=torch.float32).state_dict()
    exported = load_causal_lm(folder, dtype=torch.float32).state_dict()
    assert all(torch.equal(exported[name], tensor) for name, tensor in expected.items())
    assert all((checkpoint / MODULE_PATH / name).is_file() for name in RLLIB_FILES)


def test_an_export_replaces_an_older_one_and_leaves_other_files(
    checkpoint: Path, other_raw_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(other_raw_model, folder)
    (folder / "README.md").write_text("my model")
    export_checkpoint(checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    expected = load_file(checkpoint / MODULE_PATH / "model.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert (folder / "README.md").read_text() == "my model"


def test_a_folder_without_a_trained_model_is_refused(checkpoint: Path, raw_model: Path, tmp_path: Path) -> None:
    (checkpoint / MODULE_PATH / "config.json").unlink()
    for source in (checkpoint, raw_model, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match="holds no trained model") as caught:
            export_checkpoint(source, tmp_path / "export")
        assert str(source) in str(caught.value)
        assert "name a checkpoint folder" in str(caught.value)
        assert not (tmp_path / "export").exists()


def test_weights_are_read_from_any_number_of_files(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "model-00002-of-00002.safetensors")
    weights = read_weights(tmp_path)
    assert {name: tensor.tolist() for name, tensor in weights.items()} == {"a": [1, 1], "b": [0, 0, 0]}


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
        ("model.norm.weight", {}, r"missing \['model\.norm\.weight'\], unknown \[\], of another shape \[\]"),
        (None, {"model.x.weight": 1}, r"missing \[\], unknown \['model\.x\.weight'\], of another shape \[\]"),
        (None, {"model.norm.weight": 7}, r"missing \[\], unknown \[\], of another shape \['model\.norm\.weight'\]"),
    ],
)
def test_weights_of_another_model_are_refused_by_name_and_none_is_taken(
    raw_model: Path, other_raw_model: Path, removed: str | None, added: dict[str, int], said: str
) -> None:
    model = load_causal_lm(raw_model, dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = {name: tensor for name, tensor in read_weights(other_raw_model).items() if name != removed}
    with pytest.raises(ValueError, match="^these weights belong to another model: " + said + "$"):
        load_weights(model, weights | {name: torch.zeros(size) for name, size in added.items()})
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
