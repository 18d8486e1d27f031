"""`check_environment` finds each planted fault, and no other."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from rllib_dapo.env_check import check_environment as environment_checks
from rllib_dapo.env_check import guarded_calls
from rllib_dapo.env_check.check_environment import check_environment

FOUND = {
    "IgnoresSeed": "12 different seeds gave 1 different prompts",
    "DrawsAnew": "reset(seed=0) gave 'Say ",
    "RemembersResponses": "after other episodes 'Say 0 again.'",
    "SharedByCopies": "two environments with the same settings give different prompts for seed 0",
    "OfOneProcess": "in another process",
    "ObservesNumbers": "reset observes int, not text: 0",
    "StepObservesNone": "step observes NoneType, not text: None",
    "NoText": "reset gives an empty prompt",
    "NoInfo": "reset returned 'Say 0.'",
    "SmallAlphabet": "does not contain the response",
    "Infinite": "step('') gave the reward inf, which is not a finite number",
    "RewardOfText": "step('') gave the reward '1.0', which is not a finite number",
    "NoReason": "step('') gave the reward NaN, which means that there is no verdict, but not the "
    "reason",
    "RaisesOnNull": r"step('\x00') raised ValueError: null byte",
    "ScorerRaises": "step(''): crash: the scorer raised ValueError: invalid literal for int()",
    "CorrectAsText": "step('') gave info['is_correct'] = 'yes'",
    "NeverEnds": "an episode of 100 responses '' did not end",
    "NeverReturns": "did not return within 2 s",
    "Slow": " s (median of 5), longer than 0.01 s",
    "FourValues": "step('') returned ('', 0.0, True, {})",
    "NoSeeding": "Gymnasium's checker",
    "FailsToStart": "making it raised RuntimeError: no licence",
}


def test_an_environment_without_a_fault_has_none(faulty: ModuleType) -> None:
    assert check_environment(faulty.Sound) == []


@pytest.mark.usefixtures("quick", "faulty")
@pytest.mark.parametrize("name", [name for name in FOUND if name != "OfOneProcess"])
def test_a_planted_fault_is_found_with_its_fix(
    name: str,
    invoke_command: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if name == "Slow":
        monkeypatch.setattr(environment_checks, "RESET_SECONDS", 0.01)
    if name == "NeverReturns":
        monkeypatch.setattr(guarded_calls, "CALL_TIMEOUT_SECONDS", 2.0)

    done = invoke_command("check-env", f"faulty_envs:{name}", folder=tmp_path)
    lines = done.stderr.splitlines()
    faults, fixes = lines[::2], lines[1::2]

    assert any(FOUND[name] in fault for fault in faults), done.stderr
    assert all(fix.startswith("    -> ") for fix in fixes)
    assert len(fixes) == len(faults)
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    assert done.stdout == f"faulty_envs:{name}: {count} found\n"
    assert done.returncode == 1


def test_a_problem_that_depends_on_the_process_is_found(faulty: ModuleType) -> None:
    (found,) = check_environment(faulty.OfOneProcess)
    assert FOUND["OfOneProcess"] in found.fault
    assert "hash()" in found.fix


@pytest.mark.usefixtures("quick")
def test_the_first_fault_does_not_hide_the_next(faulty: ModuleType) -> None:
    class Two(faulty.IgnoresSeed, faulty.Infinite):  # type: ignore[name-defined]
        pass

    faults = [finding.fault for finding in check_environment(Two)]
    assert any(FOUND["IgnoresSeed"] in fault for fault in faults)
    assert any(FOUND["Infinite"] in fault for fault in faults)
