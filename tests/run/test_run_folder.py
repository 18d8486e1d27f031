"""Where runs lie: nobody writes where another does, and what cannot be written is said at once."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from rllib_dapo.findings import SettingsError
from rllib_dapo.run.run_folder import check_storage, new_run, newest_run, remove_unused


@pytest.mark.parametrize("is_uri", [False, True])
def test_runs_that_start_in_the_same_second_get_folders_of_their_own(
    tmp_path: Path, is_uri: bool
) -> None:
    storage = f"file://{tmp_path}/runs" if is_uri else str(tmp_path / "runs")
    folders = [new_run("mine", storage) for _ in range(5)]
    assert len(set(folders)) == 5
    assert len([path for path in (tmp_path / "runs").iterdir() if path.is_dir()]) == 5


def test_runs_that_start_at_the_same_instant_get_folders_of_their_own(tmp_path: Path) -> None:
    start, found = threading.Barrier(8), []

    def begin() -> None:
        start.wait()
        found.append(new_run("mine", str(tmp_path)))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8


def test_the_newest_run_is_the_last_of_those_of_one_second(tmp_path: Path) -> None:
    names = [
        f"my[1] run_2026-01-02_03-04-05{end}" for end in ("", *(f"_{n}" for n in range(2, 12)))
    ]
    other = "my[1] run_extra_2026-01-02_03-04-06"
    for name in [*names, "my[1] run_2025-12-31_23-59-59_2", other]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "tuner.pkl").touch()
    assert Path(newest_run("my[1] run", str(tmp_path))).name == names[-1]
    assert Path(newest_run("anything", str(tmp_path / names[0]))).name == names[0]


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("foo://x", "--storage foo://x: Unrecognized filesystem type in URI: foo://x"),
        ("s3:/", "--storage"),
        ("", "--storage '': name a folder"),
        ("file", "--storage file: cannot be written: "),
        ("file/inside", "cannot be written"),
        ("/proc/runs", "--storage /proc/runs: cannot be written"),
        ("run", "--storage run: this is the folder of a run: add --resume"),
    ],
)
def test_a_storage_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("run").mkdir()
    Path("run/tuner.pkl").touch()
    if storage == "s3:/":
        storage = "nothing://"
    with pytest.raises(SettingsError) as refused:
        check_storage(storage)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SettingsError, match="cannot be written"):
        check_storage(str(tmp_path))
    tmp_path.chmod(0o700)


def test_asking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_storage(str(tmp_path / "a" / "b"))
    check_storage(f"file://{tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_only_a_run_that_has_not_begun_is_removed(tmp_path: Path) -> None:
    empty, begun = tmp_path / "empty", tmp_path / "begun"
    for folder in (empty, begun):
        folder.mkdir()
        (folder / "run.json").touch()
    (begun / "trial_00000").mkdir()
    remove_unused(str(empty))
    remove_unused(str(begun))
    assert [path.name for path in tmp_path.iterdir()] == ["begun"]
    assert (begun / "run.json").exists()


def test_no_run_to_resume_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no run of 'mine' under .*nowhere, no folder"):
        newest_run("mine", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match="under a URI, name the run's own folder"):
        newest_run("mine", f"file://{tmp_path}")
    with pytest.raises(SettingsError, match="Unrecognized filesystem"):
        newest_run("mine", "foo://x")
