"""Checkpoints are found wherever they lie."""

from __future__ import annotations

from pathlib import Path

import pyarrow.fs
import pytest

from rllib_dapo.checkpoint.remote_copy import local_folder, local_model, locate
from rllib_dapo.learner.model_folder import MODULE_PATH


@pytest.mark.parametrize(
    "path",
    ["a b/c", Path("a b/c"), "./a b/c", "~/a b/c", "URI", "SPACED", "ABSOLUTE"],
    ids=str,
)
def test_a_folder_on_this_machine_is_used_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / "a b" / "c"
    named = {"URI": place.as_uri(), "SPACED": f"file://{place}", "ABSOLUTE": str(place)}
    assert locate(named.get(str(path), path)) == (None, str(place))


def test_a_file_system_of_this_machine_needs_no_copy(tmp_path: Path) -> None:
    assert locate(tmp_path, pyarrow.fs.LocalFileSystem()) == (None, str(tmp_path))


def test_an_unknown_place_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="foo://x: no such place") as caught:
        locate("foo://x")
    assert "\n" not in str(caught.value)


@pytest.fixture
def elsewhere(tmp_path: Path) -> pyarrow.fs.FileSystem:
    """A file system that is not this machine's own."""
    (tmp_path / "far").mkdir()
    return pyarrow.fs.SubTreeFileSystem(str(tmp_path / "far"), pyarrow.fs.LocalFileSystem())


def test_what_is_saved_elsewhere_comes_back(
    tmp_path: Path, elsewhere: pyarrow.fs.FileSystem
) -> None:
    with local_folder("run/one", elsewhere, purpose="save") as folder:
        (folder / "file").write_text("text")
    assert (tmp_path / "far" / "run" / "one" / "file").read_text() == "text"
    assert not folder.exists()

    with local_folder("run/one", elsewhere, purpose="restore") as folder:
        assert (folder / "file").read_text() == "text"


def test_a_save_that_fails_copies_nothing(tmp_path: Path, elsewhere: pyarrow.fs.FileSystem) -> None:
    def save() -> None:
        with local_folder("run", elsewhere, purpose="save") as folder:
            (folder / "file").write_text("text")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save()
    assert not list((tmp_path / "far").iterdir())


@pytest.mark.parametrize("below", [MODULE_PATH, Path()], ids=["a checkpoint", "a model"])
def test_of_a_remote_checkpoint_the_model_alone_is_fetched(
    tmp_path: Path,
    elsewhere: pyarrow.fs.FileSystem,
    monkeypatch: pytest.MonkeyPatch,
    below: Path,
) -> None:
    (tmp_path / "far" / "run" / below).mkdir(parents=True)
    (tmp_path / "far" / "run" / below / "config.json").write_text("{}")
    (tmp_path / "far" / "run" / "ranks").mkdir()
    # No remote file system can be reached from a test: a URI of this one stands for it.
    monkeypatch.setattr(
        "rllib_dapo.checkpoint.remote_copy.locate",
        lambda uri: (elsewhere, uri.removeprefix("far://")),
    )
    with local_model("far://run") as folder:
        assert folder is not None
        assert (folder / below / "config.json").is_file()
        assert (folder / "ranks").is_dir() == (below == Path())
    with pytest.raises(ValueError, match="there is no such folder"), local_model("far://nowhere"):
        pass


def test_what_is_no_uri_is_left_alone() -> None:
    with local_model("tiny") as folder:
        assert folder is None
