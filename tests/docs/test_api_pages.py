"""The reference of the Python interface: what is in it, and that it is made without a warning."""

from __future__ import annotations

import re
import runpy
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

import rllib_dapo
from tests.docs.blocks import REPO

pytestmark = pytest.mark.skipif(find_spec("pdoc") is None, reason="needs the package pdoc")


def test_the_reference_has_the_modules_that_pages_name() -> None:
    modules = runpy.run_path(str(REPO / "tools" / "api_pages.py"))["specifications"]()
    pages = "".join(path.read_text() for path in (REPO / "docs").glob("*.md"))
    imported = set(re.findall(r"^from (rllib_dapo[\w.]*) import", pages, re.MULTILINE))
    assert imported
    assert imported <= set(modules)


@pytest.mark.slow
def test_pdoc_makes_the_reference_without_a_warning(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run_python(REPO / "tools" / "api_pages.py", tmp_path / "api", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "api" / "rllib_dapo.html").read_text()
    assert [name for name in rllib_dapo.__all__ if f'id="{name}"' not in page] == []
    core = (tmp_path / "api" / "rllib_dapo" / "core.html").read_text()
    assert 'id="dapo_policy_loss"' in core
