"""docs/weights.md is held to the settings and to the benchmark's results."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import get_args

from rllib_dapo.config.weights_section import WeightTransferName

REPO = Path(__file__).parents[2]


def load_tool() -> ModuleType:
    path = REPO / "tools" / "weight_transfer_table.py"
    spec = importlib.util.spec_from_file_location("weight_transfer_table", path)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_the_table_is_the_benchmarks() -> None:
    tool = load_tool()
    assert tool.written_table(tool.PAGE.read_text()) == tool.table()


def test_every_way_has_its_row() -> None:
    page = load_tool().PAGE.read_text()
    ways = set(get_args(WeightTransferName)) - {"auto"}
    assert {way for way in ways if f"\n| `{way}` |" in page} == ways
