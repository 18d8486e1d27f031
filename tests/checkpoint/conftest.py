"""The Learner of tests/learner, whose checkpoints are tested here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_FILE = Path(__file__).parents[1] / "learner" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("learner_fixtures", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
_FIXTURES = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = _FIXTURES
_SPEC.loader.exec_module(_FIXTURES)

learner_config = _FIXTURES.learner_config
make_data = _FIXTURES.make_data
make_trainer = _FIXTURES.make_trainer


@pytest.fixture(autouse=True)
def _tiny_tensors(one_thread: None) -> None:
    """All tests of this room compute with tiny tensors."""
