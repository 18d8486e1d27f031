"""`check_environment` finds each planted fault, and no other."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from rllib_dapo.env_check import examined, response_checks
from rllib_dapo.env_check.check_environment import check_environment
from rllib_dapo.env_check.environment_finding import Finding

Check = Callable[..., list[Finding]]

BREAKS = {
    "DrawsAnew": "reset(seed=0) gave 'Say ",
    "RemembersResponses": "and after other episodes 'Say 11 again.'",
    "SharedByCopies": "two environments with the same settings give different prompts for seed 0",
    "OfOneProcess": "in another process",
    "ObservesNumbers": "reset observes int, not text: 0",
    "NoText": "reset(seed=0) gives an empty prompt",
    "NoInfo": "reset(seed=0) returned str instead of a tuple: 'Say 0.'",
    "Infinite": "step('') gave the reward inf, which is not a finite number",
    "RewardOfText": "step('1') gave the reward '1.0', which is not a finite number",
    "NoReason": "step('1') gave the reward NaN, which means that there is no verdict, but not the "
    "reason",
    "RaisesOnNull": r"step('\x00') raised ValueError: null byte",
    "ScorerRaises": "crash: the scorer raised ValueError: invalid literal for int()",
    "CorrectAsText": "step('1') gave info['is_correct'] = 'yes'",
    "FourValues": "step('1') returned 4 values instead of 5: ('', 0.0, True, {})",
    "FailsToStart": "making it raised RuntimeError: no licence",
}
LOOK = {
    "IgnoresSeed": "12 different seeds gave 1 different prompt",
    "StepObservesNone": "step observes NoneType, not text: None, at the end",
    "SmallAlphabet": "does not contain the response",
    "NeverEnds": "an episode of 100 times the same response did not end",
    "Slow": " s (median of ",
    "NoSeeding": "Gymnasium's checker",
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_planted_fault_is_the_one_finding(name: str, check: Check, faulty: ModuleType) -> None:
    (found,) = check(getattr(faulty, name))
    assert BREAKS[name] in found.fault
    assert found.breaks_training
    assert found.fix


@pytest.mark.parametrize("name", LOOK)
def test_what_may_be_meant_so_is_worth_a_look(
    name: str, check: Check, faulty: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "Slow":
        monkeypatch.setattr(response_checks, "RESET_SECONDS", 0.001)
    (found,) = check(getattr(faulty, name))
    assert LOOK[name] in found.fault
    assert not found.breaks_training
    assert str(found).startswith("worth a look: ")


def test_the_first_fault_does_not_hide_the_next(check: Check, faulty: ModuleType) -> None:
    class Two(faulty.IgnoresSeed, faulty.Infinite):  # type: ignore[name-defined]
        pass

    breaks, look = check(Two)
    assert BREAKS["Infinite"] in breaks.fault
    assert LOOK["IgnoresSeed"] in look.fault


def test_a_check_that_is_cut_short_says_so(
    check: Check, faulty: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examined, "PATIENCE_SECONDS", -1.0)
    (found,) = check(faulty.Infinite)
    assert "it is too slow to be asked everything" in found.fault
    assert not found.breaks_training


def test_an_environment_without_a_fault_has_none(faulty: ModuleType) -> None:
    assert check_environment(faulty.Sound) == []
