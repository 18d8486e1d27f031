"""Every block of Python runs as it stands."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import REPO, Block, all_blocks, earlier
from tests.docs.given import fill_in, write_given

BLOCKS = [block for block in all_blocks("python") if "not" not in block.note]
SHORT = [block for block in BLOCKS if not block.note.get("long")]
LONG = [block for block in BLOCKS if block.note.get("long")]


def _id(block: Block) -> str:
    return block.id


@pytest.mark.parametrize("block", SHORT, ids=_id)
def test_a_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_given(tmp_path, block.page)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    names: dict[str, Any] = {"__name__": "shown_in_a_page"}
    for part in (*earlier(block), block):
        exec(compile(part.code, part.id, "exec"), names)  # our own pages
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("block", LONG, ids=_id)
def test_a_block_that_trains_is_python(block: Block) -> None:
    for part in (*earlier(block), block):
        compile(part.code, part.id, "exec")


@pytest.mark.exhaustive
@pytest.mark.parametrize("block", LONG, ids=_id)
def test_a_block_that_trains_runs(
    block: Block,
    tmp_path: Path,
    trained: Mapping[str, object],
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    write_given(tmp_path, block.page, small=True)
    code = "\n".join(part.small_code for part in (*earlier(block), block))
    (tmp_path / "shown.py").write_text(fill_in(code, trained))
    done = run_python("shown.py", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def _methods(source: str) -> dict[str, str]:
    """The bodies of the methods of a source, by their names, without docstrings."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            found[node.name] = "\n".join(map(ast.unparse, body))
    return found


def test_the_callbacks_of_the_page_are_those_of_the_example() -> None:
    (block,) = (block for block in BLOCKS if block.page == "docs/callbacks.md")
    example = (REPO / "examples" / "own_figures.py").read_text()
    assert _methods(block.code).items() <= _methods(example).items()


@pytest.mark.parametrize("block", all_blocks("json"), ids=_id)
def test_a_record_is_json(block: Block) -> None:
    assert [json.loads(line) for line in block.code.splitlines()]
