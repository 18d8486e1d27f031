"""Every block of YAML is a run file that `train` would start, or what its page says it is."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from rllib_dapo.capacity.hardware import read_hardware
from rllib_dapo.envs.code.code_limits import CodeLimits
from rllib_dapo.envs.code.sandbox_trial import try_sandbox
from rllib_dapo.evaluation.evaluation_settings import read_evaluation
from rllib_dapo.run.preflight import check_run
from rllib_dapo.run.run_settings import read_settings
from tests.docs.blocks import REPO, Block, all_blocks, earlier
from tests.docs.given import write_given
from tests.docs.shell import A_MODEL_THAT_IS_HERE, check_own

Tree = dict[str, Any]
# What a run file adds, if it is only shown in part: a task for a model made on the spot.
BASE = "tiny_arithmetic"
BLOCKS = [block for block in all_blocks("yaml") if "kind" not in block.note]
# What some environments and rewards want installed.
NEEDED = {
    "ReasoningGym-v0": "reasoning_gym",
    "Gem-v0": "gem",
    "TextArena-v0": "textarena",
    "SkyRLGym-v0": "skyrl_gym",
    "Verifiers-v0": "verifiers",
    "judge:": "openai",
}
TASKSETS = REPO / "tests" / "envs" / "adapters" / "tasksets"
# Programs of others, and what stands for them here.
PROGRAMS = {
    "[uvx, mcp-server-time]": f"[{sys.executable}, {REPO / 'tests' / 'envs' / 'mcp' / 'server.py'}]"
}


def _merged(below: Tree, above: Mapping[str, Any]) -> Tree:
    """One tree on top of another."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _tree(block: Block) -> Tree:
    tree = yaml.safe_load(block.code)
    for key in reversed(block.note.get("under", "").split(".")):
        tree = {key: tree} if key else tree
    return tree


def _run_files(block: Block) -> Iterator[str]:
    """The run files that a block is, or is a part of."""
    if block.note.get("lines") == "apart":
        yield from block.code.splitlines()
        return

    tree: Tree = {}
    for part in (*earlier(block), block):
        tree = _merged(tree, _tree(part))
    if "base" in tree or "env" in tree.get("environment", {}):
        # As it stands, so that what is written twice is found.
        yield block.code if not earlier(block) and "under" not in block.note else yaml.dump(tree)
    else:
        yield yaml.dump({"base": BASE, **tree})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that a run is started in; modules in it are forgotten after the test."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TASKSETS))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.id)
def test_a_run_file_passes_the_checks_of_train(block: Block, folder: Path) -> None:
    if "code: python" in block.text and (fault := try_sandbox(CodeLimits())):
        pytest.skip(f"programs cannot be run here: {fault}")
    for name, package in NEEDED.items():
        if name in block.text and find_spec(package) is None:
            pytest.skip(f"needs the package {package}")

    write_given(folder, block.page)
    for text in _run_files(block):
        for shown, here in PROGRAMS.items():
            text = text.replace(shown, here)
        (folder / "shown.yaml").write_text(text)
        check_run(read_settings(folder / "shown.yaml", [A_MODEL_THAT_IS_HERE]), available={})


def _of_kind(kind: str) -> pytest.MarkDecorator:
    blocks = [block for block in all_blocks("yaml") if block.note.get("kind") == kind]
    return pytest.mark.parametrize("block", blocks, ids=lambda block: block.id)


@_of_kind("machines")
def test_a_description_of_machines_is_read(block: Block, tmp_path: Path) -> None:
    (tmp_path / "machines.yaml").write_text(block.code)
    assert read_hardware(tmp_path / "machines.yaml").nodes >= 1


@_of_kind("data sets")
def test_a_file_of_data_sets_is_read(block: Block, folder: Path) -> None:
    write_given(folder, block.page)
    (folder / "shown.yaml").write_text(block.code)
    settings = read_evaluation("tiny", file=folder / "shown.yaml")
    assert [one.name for one in settings.data_sets] == list(yaml.safe_load(block.code)["datasets"])


@_of_kind("manifest")
def test_a_manifest_starts_a_command_that_there_is(block: Block, folder: Path) -> None:
    write_given(folder, block.page)
    spec = yaml.safe_load(block.code)["spec"]
    check_own(shlex.split(spec["entrypoint"].replace("/runs/", ""))[1:])
    assert spec["rayClusterSpec"]["rayVersion"] == ray.__version__
