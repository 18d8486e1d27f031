"""docs/scaling.md and the run files' headers hold what the plan says today."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rllib_dapo.run.preset_files import preset_files

REPO = Path(__file__).parents[2]
RUN_COMMAND = "run: python tools/scaling_tables.py"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "scaling_tables", REPO / "tools" / "scaling_tables.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_tables(tables: ModuleType) -> None:
    text = tables.PAGE.read_text(encoding="utf-8")
    assert tables.page(text) == text, RUN_COMMAND


def test_headers_have_the_plans(tables: ModuleType) -> None:
    planned = []
    for name, path in preset_files().items():
        text = path.read_text(encoding="utf-8")
        assert tables.run_file(name, text) == text, RUN_COMMAND
        if "# [plan]\n" in text:
            planned.append(name)
    assert planned == ["dapo_qwen2.5_32b", "one_gpu_0.5b", "one_gpu_lora_7b", "one_node_7b"]


def test_the_page_names_every_part_of_a_plan(tables: ModuleType) -> None:
    text = tables.PAGE.read_text(encoding="utf-8")
    parts: set[str] = set()
    for name in ("smollm2_mawps", "one_node_7b", "one_gpu_lora_7b", "dapo"):
        plan, _, _ = tables.preset_plan(name)
        parts |= {*plan.learner.device, *plan.engine.parts}
    named = {part for part in parts if f"| {part}" in text}
    assert parts - named == {"activations, gradients"}  # two rows of the page


def _rows() -> list[dict[str, Any]]:
    record = json.loads((REPO / "benchmarks" / "results" / "plan_memory.json").read_text())
    return record["rows"]


def test_what_was_measured_was_planned_within_a_fifth() -> None:
    rows = _rows()
    models, sides = ("tiny", "random-32m", "smollm2-135m"), ("learner", "engine")
    measured = {(row["model"], row["side"]) for row in rows}
    assert measured >= {(model, side) for model in models for side in sides}
    assert [row for row in rows if abs(row["ratio"] - 1) > 0.2] == []
