"""`rllib-dapo check-env`, as a shell runs it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_the_command_says_that_there_are_no_faults(run_command: Run, tmp_path: Path) -> None:
    done = run_command(
        *("check-env", "rllib_dapo/Arithmetic-v0", "--set", "env_config.digits=3"), folder=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "rllib_dapo/Arithmetic-v0: no faults found\n",
        "",
    )


def test_the_command_names_the_fault_and_its_fix(run_command: Run, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("faulty_envs.py"), tmp_path / "mine.py")
    done = run_command("check-env", "mine:Infinite", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "mine:Infinite: 1 fault found\n")
    fault, fix = done.stderr.splitlines()
    assert fault == "step('') gave the reward inf, which is not a finite number"
    assert fix.startswith("    -> return a float")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["rllib_dapo/Arithmatic-v0"], 2, "did you mean 'rllib_dapo/Arithmetic-v0'?"),
        (["nowhere:Env"], 2, "module nowhere cannot be imported"),
        (
            ["rllib_dapo/Arithmetic-v0", "--set", "training.lr=1"],
            2,
            "write it as --set env_config.name=value",
        ),
        (
            ["rllib_dapo/Arithmetic-v0", "--set", "env_config.digit=1"],
            1,
            "making it raised ValueError: ArithmeticEnv: unknown",
        ),
    ],
)
def test_the_command_refuses_what_it_cannot_check(
    invoke_command: Run, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    done = invoke_command("check-env", *arguments, folder=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
