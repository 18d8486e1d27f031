"""Weights on disk and on their way: reading them, taking a model out of a checkpoint, cutting them into pieces."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rllib_dapo.checkpoint.export import export_checkpoint
from rllib_dapo.learner.model_folder import (
    MODULE_PATH,
    VALUE_HEAD_FOLDER,
    load_weights,
    read_weights,
)
from rllib_dapo.models import load_causal_lm
from rllib_dapo.weight_transfer import pieces, to_numpy, to_tensors

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


def test_an_export_holds_the_model_and_nothing_of_rllib(
    checkpoint: Path, raw_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "exports" / "model"
    assert export_checkpoint(checkpoint, folder) == folder
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        file.name for file in raw_model.iterdir()
    )
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


def test_a_folder_without_a_trained_model_is_refused(
    checkpoint: Path, raw_model: Path, tmp_path: Path
) -> None:
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


# A value head


def test_a_value_heads_weights_are_read_with_a_prefix(tmp_path: Path) -> None:
    save_file({"model.norm.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / VALUE_HEAD_FOLDER).mkdir()
    save_file({"bias": torch.zeros(1)}, tmp_path / VALUE_HEAD_FOLDER / "model.safetensors")
    assert read_weights(tmp_path).keys() == {"model.norm.weight", "value_head.bias"}


def test_an_export_leaves_the_value_head_behind(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / MODULE_PATH / VALUE_HEAD_FOLDER).mkdir()
    save_file(
        {"bias": torch.zeros(1)}, checkpoint / MODULE_PATH / VALUE_HEAD_FOLDER / "model.safetensors"
    )
    folder = export_checkpoint(checkpoint, tmp_path / "model")
    assert not (folder / VALUE_HEAD_FOLDER).exists()
    assert (folder / "model.safetensors").is_file()


# To the engines


def test_bfloat16_crosses_as_its_bits() -> None:
    exact = torch.randn(50, generator=torch.Generator().manual_seed(0))
    array = to_numpy(exact, torch.bfloat16)
    assert array.dtype == np.uint16
    ((name, tensor),) = to_tensors([("w", array)])
    assert name == "w"
    assert torch.equal(tensor, exact.bfloat16())
    assert not torch.equal(tensor.float(), exact)


def test_arrays_are_copies_and_whole_numbers_stay_whole() -> None:
    weight, steps = torch.ones(3), torch.tensor([7])
    array = to_numpy(weight, torch.float32)
    weight += 1
    assert array.tolist() == [1, 1, 1]
    assert to_numpy(steps, torch.bfloat16).dtype == np.int64


def test_read_only_arrays_become_tensors_of_their_own() -> None:
    array = np.ones(3, dtype=np.float32)
    array.flags.writeable = False
    ((_, tensor),) = to_tensors([("w", array)])
    tensor += 1
    assert array.tolist() == [1, 1, 1]


def test_pieces_hold_every_weight_once_in_order_and_end_where_they_are_full() -> None:
    weights = {
        name: torch.full((size,), float(size))
        for name, size in {"a": 2, "b": 1, "c": 9, "d": 1}.items()
    }
    cut = list(pieces(weights.items(), dtype=torch.float32, max_bytes=12))
    assert [[name for name, _ in piece] for piece in cut] == [["a", "b"], ["c"], ["d"]]
    assert all(
        np.array_equal(array, weights[name].numpy()) for piece in cut for name, array in piece
    )
    halves = list(pieces(weights.items(), dtype=torch.bfloat16, max_bytes=12))
    assert [[name for name, _ in piece] for piece in halves] == [["a", "b", "c"], ["d"]]
    assert list(pieces([], dtype=torch.float32)) == []


def test_pieces_are_made_one_at_a_time() -> None:
    """No process is to hold a second copy of all weights."""
    made = []
    weights = ((str(i), made.append(i) or torch.ones(4)) for i in range(10))
    cut = pieces(weights, dtype=torch.float32, max_bytes=16)
    next(cut)
    assert made == [0]
