"""docs/algorithm.md names what exists, and the settings of the presets as they are."""

from __future__ import annotations

import importlib
import inspect
import re
from functools import reduce
from pathlib import Path

import pytest
import yaml

from rllib_dapo import DAPOConfig
from rllib_dapo.config.objective_presets import PRESETS
from rllib_dapo.config.setting import attribute_of, section_kinds

REPO = Path(__file__).parent.parent
TEXT = (REPO / "docs" / "algorithm.md").read_text()
NAMED = re.compile(r"`([\w/]+\.py):([\w.]+)`")
SETTING = re.compile(r"`([a-z_]+)\.([a-z_]+)`")
VALUE = re.compile(r"`([a-z_]+\.[a-z_]+): ([^`]+)`")

PAPER, BEYOND, COLUMNS = "The paper's equations", "What is not in the paper", "PPO -> GRPO -> DAPO"


def _rows(chapter: str) -> list[list[str]]:
    """The cells of a chapter's table, without its header."""
    (content,) = re.findall(
        rf"^## {re.escape(chapter)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL
    )
    lines = [line for line in content.splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
        for line in lines[2:]
    ]


def _is_test(path: str) -> bool:
    return Path(path).name.startswith("test_")


FUNCTIONS = sorted({(path, name) for path, name in NAMED.findall(TEXT) if not _is_test(path)})
TESTS = sorted({(path, name) for path, name in NAMED.findall(TEXT) if _is_test(path)})


@pytest.mark.parametrize(("path", "name"), FUNCTIONS)
def test_a_function_is_where_the_page_says(path: str, name: str) -> None:
    file = REPO / path if path.startswith("envs/") else REPO / "rllib_dapo" / path
    module = importlib.import_module("rllib_dapo." + path.removesuffix(".py").replace("/", "."))
    function = inspect.unwrap(reduce(getattr, name.split("."), module))
    assert Path(inspect.getfile(function)).resolve() == file.resolve()


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_a_test_is_where_the_page_says(path: str, name: str) -> None:
    assert re.search(rf"^def {name}\(", (REPO / "tests" / path).read_text(), re.MULTILINE)


def test_every_equation_has_its_row_and_every_row_its_code_and_its_test() -> None:
    names = [row[0].partition(",")[0] for row in _rows(PAPER)]
    assert [name for name in names if name.startswith("Eq.")] == [
        f"Eq. {number}" for number in range(1, 14)
    ]
    assert "Algorithm 1" in names
    for *_, code, tests in _rows(PAPER) + _rows(BEYOND):
        assert any(not _is_test(path) for path, _ in NAMED.findall(code)), code
        assert all(_is_test(path) for path, _ in NAMED.findall(tests)), tests
        assert NAMED.search(tests), tests


def test_every_setting_exists() -> None:
    found = set(SETTING.findall(TEXT))
    found |= {tuple(setting.split(".")) for setting, _ in VALUE.findall(TEXT)}
    assert found
    assert [
        f"{section}.{name}"
        for section, name in found
        if name not in section_kinds(DAPOConfig, section)
    ] == []


@pytest.mark.parametrize(("column", "preset"), [(1, "ppo"), (2, "grpo"), (3, "dapo")])
def test_a_presets_column_is_what_the_preset_sets(column: int, preset: str) -> None:
    config = PRESETS[preset](DAPOConfig())
    named = [pair for row in _rows(COLUMNS) for pair in VALUE.findall(row[column])]
    assert named
    for setting, text in named:
        assert getattr(config, attribute_of(setting, DAPOConfig)) == yaml.safe_load(text), setting
