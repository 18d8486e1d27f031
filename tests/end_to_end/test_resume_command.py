"""`rllib-dapo train --resume` of a run that was finished, and of one that was interrupted."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]
TRAIN = ("train", "tiny_arithmetic", "--storage", "my runs")


def _iterations(folder: Path) -> list[int]:
    """The iterations whose lines are there whole: the run may be writing the next one."""
    return [
        json.loads(line)["training_iteration"]
        for file in folder.glob("my runs/*/trial_00000/result.json")
        for line in file.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]


def test_a_finished_run_is_extended_or_says_why_not(
    run_command: Run, quick_settings: Mapping[str, object], tmp_path: Path
) -> None:
    def run(iterations: int, *words: str, **more: object) -> subprocess.CompletedProcess[str]:
        settings = quick_settings | {"stop.training_iteration": iterations} | more
        return run_command(*TRAIN, *words, folder=tmp_path, settings=settings)

    assert run(2).returncode == 0
    same = run(2, "--resume")
    assert (same.returncode, same.stderr) == (0, "")
    assert same.stdout.startswith("nothing left to do: its trial is finished, after 2 iterations\n")

    other = run(2, "--resume", **{"training.lr": 5e-4})
    assert (other.returncode, other.stdout) == (2, "")
    assert other.stderr.startswith("--resume: training.lr is 0.0005 now, but")

    longer = run(4, "--resume")
    assert longer.returncode == 0, longer.stdout + longer.stderr
    assert _iterations(tmp_path) == [1, 2, 3, 4]
    assert run(4, "--resume").stdout.startswith("nothing left to do")
    assert run(3, "--resume").returncode == 2
    assert len(list((tmp_path / "my runs").iterdir())) == 1


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.exhaustive),
    ],
)
def test_an_interrupted_run_says_so_and_goes_on_by_the_command_that_it_prints(
    start_command: Callable[..., subprocess.Popen[str]],
    run_command: Run,
    quick_settings: Mapping[str, object],
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    more = {"tune.checkpoint_frequency": 5, "stop.training_iteration": 30}
    started = start_command(*TRAIN, folder=tmp_path, settings=quick_settings | more)
    while len(_iterations(tmp_path)) < 6:
        assert started.poll() is None, started.communicate()
        time.sleep(0.1)
    started.send_signal(number)
    out, err = started.communicate()
    assert (started.returncode, err) == (code, "")

    lines = out.splitlines()
    told = lines.index("interrupted: saving what is there (once more ends it at once)")
    assert lines[told + 1] == "interrupted:"
    assert ", kept up to " in lines[told + 2]
    words = shlex.split(next(line for line in lines if "to go on" in line))[3:]
    assert words[0] == "rllib-dapo"
    done = run_command(*words[1:], folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    iterations = _iterations(tmp_path)
    assert iterations[-1] == 30
    assert sorted(set(iterations)) == list(range(1, 31))
