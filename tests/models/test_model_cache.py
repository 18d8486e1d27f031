"""The cache of model folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rllib_dapo.models.model_cache import cached_folder, default_cache_dir


def test_two_processes_that_ask_at_once_make_one_folder(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from rllib_dapo.models.model_cache import cached_folder

def build(folder):
    with (root / "builds").open("a") as log:
        log.write(f"{os.getpid()}\\n")
    (folder / "config.json").write_text("made" * 100_000)

root = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(len((cached_folder("model", build, cache_dir=root) / "config.json").read_text()))
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:
        assert one.stdout.readline() == other.stdout.readline() == "ready\n"
        for process in (one, other):
            process.stdin.write("go\n")
            process.stdin.flush()
        assert one.stdout.read() == other.stdout.read() == "400000\n"
    assert len((tmp_path / "builds").read_text().splitlines()) == 1


def test_a_build_that_fails_leaves_no_folder_and_can_be_tried_again(tmp_path: Path) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "config.json").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_folder("model", interrupted, cache_dir=tmp_path)
    assert not (tmp_path / "model").exists()
    made = cached_folder(
        "model", lambda folder: (folder / "config.json").write_text("whole"), cache_dir=tmp_path
    )
    assert (made / "config.json").read_text() == "whole"


def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLLIB_DAPO_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("RLLIB_DAPO_CACHE")
    assert default_cache_dir() == Path.home() / ".cache" / "rllib_dapo"
