"""`with rllib_dapo.quiet(...)` in a program of one's own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

IMPORT = """
import sys, rllib_dapo
from rllib_dapo.run.quiet_python import quiet
assert rllib_dapo.quiet is quiet
print("quiet" in dir(rllib_dapo), sorted({"ray", "torch"} & set(sys.modules)))
"""
PROGRAM = """
import logging, os, sys
import rllib_dapo
names = ("RAY_AIR_NEW_OUTPUT", "TUNE_DISABLE_STRICT_METRIC_CHECKING")
before = [os.environ.get(name) for name in names], logging.getLogger("ray.tune").level
with rllib_dapo.quiet(sys.argv[1]) as log:
    import ray
    @ray.remote(num_cpus=0)
    def loud():
        print("a thousand lines")
        raise ValueError("no room")
    try:
        ray.get(loud.remote())
    except ValueError as error:
        print("told", type(error).__name__)
    while "a thousand lines" not in open(sys.argv[1]).read():
        pass
assert not ray.is_initialized()
assert before == ([os.environ.get(name) for name in names], logging.getLogger("ray.tune").level)
"""


def test_the_import_is_light_and_the_name_is_listed(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run_python("-c", IMPORT, folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "True []\n"), done.stderr


@pytest.mark.slow
def test_what_workers_print_is_in_the_file_and_not_in_the_output(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run_python("-c", PROGRAM, tmp_path / "workers.log", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("told RayTaskError(ValueError)\n", "")
    assert "a thousand lines" in (tmp_path / "workers.log").read_text()


@pytest.mark.slow
def test_a_ray_that_does_not_answer_is_told_in_one_line(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    program = "import rllib_dapo\nwith rllib_dapo.quiet():\n    pass\n"
    done = run_python("-c", program, folder=tmp_path, environment={"RAY_ADDRESS": "127.0.0.1:1"})
    assert done.returncode == 1
    assert "SettingsError: RAY_ADDRESS=127.0.0.1:1: no Ray answers at" in done.stderr
    assert list(tmp_path.iterdir()) == []
