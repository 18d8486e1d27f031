"""Environments with planted faults, and checks without what takes seconds."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rllib_dapo.env_check import check_environment as environment_checks
from rllib_dapo.run import quiet_ray


@pytest.fixture(scope="module")
def faulty() -> ModuleType:
    """The module `faulty_envs`, importable by that name here and in processes started from here."""
    folder = str(Path(__file__).parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module("faulty_envs")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the other process, which takes seconds to start, and what the command silences."""
    monkeypatch.setattr(environment_checks, "_check_processes", lambda *_: None)
    monkeypatch.setattr(quiet_ray, "silence", lambda: None)
