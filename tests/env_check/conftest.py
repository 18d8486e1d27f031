"""Environments with planted faults, and processes in which they are checked one after another."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rllib_dapo.env_check import environment_process, examined
from rllib_dapo.env_check.check_environment import run_checks
from rllib_dapo.env_check.environment_finding import Finding
from rllib_dapo.env_check.environment_process import EnvironmentProcess

Check = Callable[..., list[Finding]]


@pytest.fixture(scope="session")
def faulty() -> ModuleType:
    """The module `faulty_envs`, importable by that name here and in processes started from here.

    So are the tasksets with which the adapter for verifiers is tested.
    """
    here = Path(__file__).parent
    for folder in map(str, (here, here.parent / "envs" / "adapters" / "tasksets")):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    return importlib.import_module("faulty_envs")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a call may take long, and what does not hang must not seem to."""
    monkeypatch.setattr(environment_process, "CALL_SECONDS", 800.0)
    monkeypatch.setattr(environment_process, "MAKE_SECONDS", 800.0)
    monkeypatch.setattr(examined, "PATIENCE_SECONDS", 800.0)


@pytest.fixture(scope="session")
def processes(faulty: ModuleType) -> Iterator[tuple[EnvironmentProcess, EnvironmentProcess]]:
    """The two processes that `check_environment` starts, which takes most of its time."""
    with EnvironmentProcess(hash_seed=1) as here, EnvironmentProcess(hash_seed=2) as elsewhere:
        yield here, elsewhere


@pytest.fixture
def check(processes: tuple[EnvironmentProcess, EnvironmentProcess]) -> Check:
    """`check_environment`, in processes that are there already."""

    def run(env: Any, env_config: Mapping[str, Any] | None = None) -> list[Finding]:
        here, elsewhere = processes
        return run_checks(env, env_config or {}, here=here, elsewhere=elsewhere)

    return run
