"""The Grafana dashboard: made of the gauges, and made as Grafana's own schema has it."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from rllib_dapo.dashboards import grafana
from rllib_dapo.dashboards.grafana_panels import NODE_PANELS, ROWS
from rllib_dapo.tracking.gauges import GAUGES

DASHBOARD = grafana.dashboard()
CHARTS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for chart in CHARTS for target in chart["targets"]]


def test_the_file_is_what_the_table_of_gauges_makes() -> None:
    assert grafana.DASHBOARD_FILE.read_text() == grafana.dashboard_json(), (
        "write it again: python -m rllib_dapo.dashboards.grafana"
    )


def test_every_gauge_is_on_one_panel() -> None:
    shown = Counter(name for row in ROWS for panel in row.panels for name in panel.gauges)
    assert shown == Counter(curve.name for curve in GAUGES)


def test_the_rows_are_the_four_that_there_shall_be() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Learning", "Dynamic sampling", "Objective", "System"]


def test_every_query_asks_for_a_gauge_that_is_exported() -> None:
    asked = {re.match(r"[a-z_]+", query).group() for query in QUERIES}  # type: ignore[union-attr]
    assert asked == {f"ray_{curve.full_name}" for curve in GAUGES} | {
        panel.gauge for panel in NODE_PANELS
    }


def test_every_variable_in_use_is_defined_before() -> None:
    known: set[str] = {"datasource"}
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            assert _variables(json.dumps(variable["query"])) <= known
        known.add(variable["name"])
    assert _variables(json.dumps(CHARTS)) <= known


def test_panels_have_their_own_numbers_and_places() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    cells = [cell for panel in DASHBOARD["panels"] for cell in _cells(panel["gridPos"])]
    assert len(cells) == len(set(cells))
    assert all(0 <= x < 24 for x, _ in cells)


def test_grafanas_schema_knows_every_field() -> None:
    assert list(_lost(DASHBOARD, _as_grafana_reads(DASHBOARD))) == []


@pytest.mark.parametrize("level", ["dashboard", "panel", "custom", "target", "variable"])
def test_a_field_that_grafanas_schema_does_not_know_is_found(level: str) -> None:
    wrong = json.loads(json.dumps(DASHBOARD))
    places = {
        "dashboard": wrong,
        "panel": wrong["panels"][1],
        "custom": wrong["panels"][1]["fieldConfig"]["defaults"]["custom"],
        "target": wrong["panels"][1]["targets"][0],
        "variable": wrong["templating"]["list"][0],
    }
    places[level]["drawStile"] = "line"
    assert len(list(_lost(wrong, _as_grafana_reads(wrong)))) == 1


def _as_grafana_reads(dashboard: dict[str, Any]) -> dict[str, Any]:
    """Reads and writes it with the types made of Grafana's schema, which drop unknown fields."""
    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))


def _lost(before: Any, after: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from (
                _lost(value, after[key], f"{path}/{key}") if key in after else [f"{path}/{key}"]
            )
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _lost(one, other, f"{path}/{place}")
    elif before != after:
        yield f"{path}: {before!r} became {after!r}"


def _variables(text: str) -> set[str]:
    return set(re.findall(r"\$\{?([a-z]+)", text))


def _cells(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    columns, lines = (
        range(place["x"], place["x"] + place["w"]),
        range(place["y"], place["y"] + place["h"]),
    )
    return itertools.product(columns, lines)
