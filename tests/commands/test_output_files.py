"""No command writes where something else already is."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.commands.output_files import new_files
from rllib_dapo.findings import SettingsError

PROBLEM = '{"question": "1+1", "answer": "2"}\n'


def test_a_new_path_is_made_absolute_and_none_stays_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    named = {"--json": Path("new/f.json"), "--csv": None, "OUT": Path("~/o.csv")}
    assert new_files(named, overwrite=False) == [
        tmp_path / "new" / "f.json",
        None,
        tmp_path / "home" / "o.csv",
    ]


@pytest.mark.parametrize(
    ("path", "overwrite", "told"),
    [
        ("there.json", False, "exists already: name another file, or add --overwrite"),
        ("folder", True, "this is a folder: name a file"),
        ("there.json/below/f.json", True, "there.json is a file, not a folder"),
    ],
)
def test_what_is_there_stays_there(tmp_path: Path, path: str, overwrite: bool, told: str) -> None:
    (tmp_path / "there.json").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingsError, match=told) as caught:
        new_files({"--json": tmp_path / path}, overwrite=overwrite)
    assert str(caught.value).startswith(f"--json {tmp_path / path}: ")


def test_two_options_may_not_name_one_file(tmp_path: Path) -> None:
    named = {"--json": tmp_path / "f", "--csv": tmp_path / "f"}
    with pytest.raises(SettingsError, match=r"--csv .*: another option names this file, too"):
        new_files(named, overwrite=True)


def test_a_file_is_replaced_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mine")
    assert new_files({"OUT": tmp_path / "f"}, overwrite=True) == [tmp_path / "f"]


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (["prepare", "in.jsonl", "out.jsonl"], "out.jsonl"),
        (["dashboard", "--json", "grafana.json"], "grafana.json"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_writes_once_and_then_only_if_told_to(
    invoke_command: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    arguments: list[str],
    written: str,
) -> None:
    (tmp_path / "in.jsonl").write_text(PROBLEM)
    first = invoke_command(*arguments, folder=tmp_path)
    assert first.returncode == 0, first.stderr
    content = (tmp_path / written).read_text()

    (tmp_path / written).write_text("mine now")
    again = invoke_command(*arguments, folder=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.count("\n") == 1
    assert "exists already: name another file, or add --overwrite" in again.stderr
    assert (tmp_path / written).read_text() == "mine now"

    told = invoke_command(*arguments, "--overwrite", folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert (tmp_path / written).read_text() == content


def test_problems_are_never_written_over_the_file_they_come_from(
    invoke_command: Callable[..., subprocess.CompletedProcess[Any]], tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_text(PROBLEM)
    done = invoke_command("prepare", "in.jsonl", "./in.jsonl", "--overwrite", folder=tmp_path)
    assert done.returncode == 2
    assert "is IN itself" in done.stderr
    assert (tmp_path / "in.jsonl").read_text() == PROBLEM
