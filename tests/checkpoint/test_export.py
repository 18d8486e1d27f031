"""Taking a model out of a checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rllib_dapo.checkpoint.export import export_checkpoint
from rllib_dapo.learner.model_folder import MODULE_PATH, VALUE_HEAD_FOLDER
from rllib_dapo.models import load_causal_lm

RLLIB_FILES = ["class_and_ctor_args.pkl", "metadata.json", "module_state.pkl"]


@pytest.fixture
def checkpoint(raw_model: Path, tmp_path: Path) -> Path:
    """A checkpoint with a model where RLlib's modules save theirs, and RLlib's own files."""
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


def test_an_export_into_a_folder_with_files_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    assert export_checkpoint(checkpoint, folder) == folder  # it was empty
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(FileExistsError, match="name another folder, or add --overwrite"):
        export_checkpoint(checkpoint, folder, dtype="bfloat16")
    assert {file: file.read_bytes() for file in folder.iterdir()} == before

    (tmp_path / "file").write_text("text")
    with pytest.raises(FileExistsError, match="is a file: name another folder"):
        export_checkpoint(checkpoint, tmp_path / "file", overwrite=True)


def test_an_export_that_overwrites_replaces_an_older_one_and_leaves_other_files(
    checkpoint: Path, other_raw_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(other_raw_model, folder)
    (folder / "README.md").write_text("my model")
    export_checkpoint(checkpoint, folder, overwrite=True)
    weights = load_file(folder / "model.safetensors")
    expected = load_file(checkpoint / MODULE_PATH / "model.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert (folder / "README.md").read_text() == "my model"


@pytest.mark.parametrize(
    "name", ["model-00002-of-00002.safetensors", "pytorch_model.bin", "tokenizer.model"]
)
def test_what_another_model_has_left_is_never_mixed_with_an_export(
    checkpoint: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / name).write_text("of another model")
    with pytest.raises(FileExistsError, match=f"{name}, which is not replaced"):
        export_checkpoint(checkpoint, folder, overwrite=True)
    assert [file.name for file in folder.iterdir()] == [name]


def test_an_export_of_a_read_only_checkpoint_can_be_changed(
    checkpoint: Path, tmp_path: Path
) -> None:
    for path in [checkpoint, *checkpoint.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        folder = export_checkpoint(checkpoint, tmp_path / "model")
    finally:
        for path in [checkpoint, *checkpoint.rglob("*")]:
            path.chmod(0o755)
    assert all(path.stat().st_mode & 0o200 for path in [folder, *folder.rglob("*")])


def test_a_checkpoint_may_be_named_by_its_uri(checkpoint: Path, tmp_path: Path) -> None:
    folder = export_checkpoint(f"file://{checkpoint}", tmp_path / "a b" / "model")
    assert (folder / "model.safetensors").is_file()


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


def test_an_export_leaves_the_value_head_behind(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / MODULE_PATH / VALUE_HEAD_FOLDER).mkdir()
    save_file(
        {"bias": torch.zeros(1)}, checkpoint / MODULE_PATH / VALUE_HEAD_FOLDER / "model.safetensors"
    )
    folder = export_checkpoint(checkpoint, tmp_path / "model")
    assert not (folder / VALUE_HEAD_FOLDER).exists()
    assert (folder / "model.safetensors").is_file()
