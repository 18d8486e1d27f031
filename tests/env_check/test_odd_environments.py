"""Environments as people write them: one true cause each, and nothing where nothing is wrong."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import psutil
import pytest
from ray import tune

from rllib_dapo.env_check import environment_process
from rllib_dapo.env_check.environment_finding import Finding
from rllib_dapo.env_check.environment_process import EnvironmentProcess

Check = Callable[..., list[Finding]]

sys.path.insert(0, str(Path(__file__).parent))
odd_envs = importlib.import_module("odd_envs")

# These wait for a deadline, or for another process.
SECONDS_EACH = {name for name in odd_envs.BREAKS if name.startswith(("hangs", "SIGSEGV"))}
QUICK = {"hangs, step", "SIGSEGV"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SECONDS_EACH - QUICK else ())
        for name in odd_envs.BREAKS
    ],
)
def test_what_breaks_training_is_told_once_with_its_cause(
    name: str, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, told = odd_envs.BREAKS[name]
    if name.startswith("hangs"):
        monkeypatch.setattr(environment_process, "CALL_SECONDS", 3.0)
        monkeypatch.setattr(environment_process, "MAKE_SECONDS", 3.0 if "made" in name else 800.0)
    monkeypatch.setattr(environment_process, "MOST_MEMORY_MIB", 256)

    (found,) = check(env)
    assert told in found.fault
    assert found.breaks_training


@pytest.mark.parametrize("name", odd_envs.LOOK)
def test_what_may_be_meant_so_is_told_once(name: str, check: Check) -> None:
    env, told = odd_envs.LOOK[name]
    (found,) = check(env)
    assert told in found.fault
    assert not found.breaks_training


@pytest.mark.parametrize("name", odd_envs.FINE)
def test_what_is_fine_is_found_to_be(name: str, check: Check) -> None:
    assert check(odd_envs.FINE[name]) == []


def test_an_environment_that_gymnasium_knows_by_a_class_is_known_in_the_other_process(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(gymnasium.registry, "Mine-v0", raising=False)
    gymnasium.register("Mine-v0", odd_envs.FINE["sound"], max_episode_steps=3)
    try:
        assert check("Mine-v0") == []
    finally:
        del gymnasium.registry["Mine-v0"]


def test_an_environment_that_gymnasium_knows_by_an_entry_point_is_made_of_it(check: Check) -> None:
    gymnasium.register("Mine-v1", "odd_envs:Talks")
    try:
        assert check("Mine-v1") == []
    finally:
        del gymnasium.registry["Mine-v1"]


def test_an_environment_that_only_tune_knows_is_known_in_the_other_process(check: Check) -> None:
    tune.register_env("mine", lambda config: odd_envs.rewarding(config["reward"])())
    assert check("mine", {"reward": 1.0}) == []
    (found,) = check("mine", {"reward": None})
    assert "gave the reward None" in found.fault


def test_what_cannot_be_sent_to_an_env_runner_is_told(check: Check) -> None:
    class Locked(odd_envs.Sound):  # type: ignore[name-defined]
        lock = __import__("threading").Lock()

    (found,) = check(Locked)
    assert "it cannot be sent to another process: TypeError: cannot pickle" in found.fault


@pytest.mark.parametrize("env", ["CartPole-v1", "FrozenLake-v1"])
def test_an_environment_of_numbers_is_told_to_be_one(check: Check, env: str) -> None:
    (found,) = check(env)
    assert "it is not about texts: its observations are " in found.fault
    assert "examples/gymnasium_text.py" in found.fix


def test_nothing_that_an_environment_started_is_left(
    check: Check, processes: tuple[EnvironmentProcess, EnvironmentProcess]
) -> None:
    check(odd_envs.FINE["forks"])
    started = psutil.Process().children(recursive=True)
    for process in processes:
        process.kill()
    _, alive = psutil.wait_procs(
        [one for one in started if "serve.py" in " ".join(_command(one))], timeout=60
    )
    assert not alive


def _command(process: Any) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
