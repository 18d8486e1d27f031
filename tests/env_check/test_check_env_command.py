"""`rllib-dapo check-env`, as a shell runs it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.env_check.environment_finding import Finding
from rllib_dapo.findings import SettingsError

Check = Callable[..., list[Finding]]
Run = Callable[..., subprocess.CompletedProcess[str]]

# A script of ten lines, as people write them: without a guard around what it does.
SCRIPT = """
import gymnasium
from rllib_dapo.env_check.check_environment import check_environment
from rllib_dapo.envs import TextSpace

class Mine(gymnasium.Env):
    observation_space = action_space = TextSpace(200_000)

    def __init__(self, config):
        self.reward = config["reward"]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return f"Say {seed}.", {}

    def step(self, action):
        return "", self.reward, True, False, {}

print([str(finding) for finding in check_environment(Mine, {"reward": 1.0})])
print([finding.fault for finding in check_environment(Mine, {"reward": "much"})])
"""


def test_the_command_says_that_there_are_no_faults(run_command: Run, tmp_path: Path) -> None:
    done = run_command(
        *("check-env", "rllib_dapo/Arithmetic-v0", "--set", "env_config.digits=3"), folder=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "rllib_dapo/Arithmetic-v0: no faults found\n",
        "",
    )


@pytest.mark.slow
def test_the_command_names_the_fault_and_its_fix(run_command: Run, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("faulty_envs.py"), tmp_path / "mine.py")
    done = run_command("check-env", "mine:Infinite", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "mine:Infinite: 1 fault found\n")
    fault, fix = done.stderr.splitlines()
    assert fault == ("breaks training: step('') gave the reward inf, which is not a finite number")
    assert fix.startswith("    -> return a float")


@pytest.mark.slow
def test_what_is_worth_a_look_is_shown_and_does_not_fail(run_command: Run, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("faulty_envs.py"), tmp_path / "mine.py")
    done = run_command("check-env", "mine:IgnoresSeed", folder=tmp_path)
    assert (done.returncode, done.stdout) == (
        0,
        "mine:IgnoresSeed: no faults found, 1 thing worth a look\n",
    )
    assert done.stderr.startswith("worth a look: 12 different seeds gave 1 different prompt\n")


@pytest.mark.slow
def test_a_script_without_a_guard_can_check_a_class_of_its_own(
    run_python: Run, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run_python("script.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "[]",
        "[\"step('1') gave the reward 'much', which is not a finite number\"]",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere:Env"], "module nowhere cannot be imported: ModuleNotFoundError"),
        (["rllib_dapo/Math-v0", "--set", "training.lr=1"], "training.lr is not a setting of"),
        (["rllib_dapo/Math-v0", "--set", "foo=1"], "foo is not a setting of check-env"),
        (["rllib_dapo/Math-v0", "--set", "env_config"], "env_config is not a setting of"),
        (["rllib_dapo/Math-v0", "--set", "env_config.=1"], "is not a setting of check-env"),
        (["rllib_dapo/Math-v0", "--set", "env_config.a={"], "the value is not YAML"),
    ],
)
def test_the_command_refuses_what_it_cannot_check_in_one_line(
    invoke_command: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = invoke_command("check-env", *arguments, folder=tmp_path)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(
    ("env", "env_config", "message"),
    [
        ("rllib_dapo/Arithmatic-v0", {}, "did you mean 'rllib_dapo/Arithmetic-v0'?"),
        ("faulty_envs:Sond", {}, "module faulty_envs has no class 'Sond'; did you mean 'Sound'?"),
        ("exits:Env", {}, "environment.env='exits:Env': it cannot be imported: SystemExit: 3"),
        ("rllib_dapo/Arithmetic-v0", {"digit": 1}, "did you mean 'digits'?"),
        ("rllib_dapo/Math-v0", {}, "environment.env_config of rllib_dapo/Math-v0: path"),
        ("CartPole-v1", {"wheels": 4}, "unexpected keyword argument 'wheels'"),
        ("CartPole-v9", {}, "environment.env='CartPole-v9': no such environment"),
    ],
)
def test_what_is_not_there_or_refuses_its_settings_is_refused_in_one_line(
    check: Check, env: str, env_config: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)) as refusal:
        check(env, env_config)
    assert "\n" not in str(refusal.value)


@pytest.mark.slow
def test_a_module_that_crashes_when_imported_is_a_finding(
    invoke_command: Run, tmp_path: Path
) -> None:
    (tmp_path / "crashes.py").write_text("import os\nos.abort()")
    done = invoke_command("check-env", "crashes:Env", folder=tmp_path)
    assert done.stderr.startswith(
        "breaks training: importing its module ended its process: the process died of signal 6 "
        "(SIGABRT)\n"
    )
    assert done.returncode == 1
