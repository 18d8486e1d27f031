"""Grafana's JSON of the dashboard. `python -m rllib_dapo.dashboards.grafana` writes the file beside this one anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from rllib_dapo.dashboards.grafana_panels import NODE_PANELS, ROWS, NodePanel, Panel
from rllib_dapo.tracking.gauges import GAUGES, TAGS, GaugeSpec

UID = "rllib-dapo"
FILE = Path(__file__).with_name("rllib_dapo_grafana_dashboard.json")
RAYS_PREFIX = "ray_"
_SESSION_LABEL = "SessionName"
_SCHEMA_VERSION = 39  # Grafana 11's; newer ones migrate it when they load it
_COLUMNS, _WIDTH, _HEIGHT = 24, 8, 7
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_CURVES = {curve.name: curve for curve in GAUGES}


def dashboard() -> dict[str, Any]:
    """The dashboard: rows of panels, and the variables that choose session, run, trial and module."""
    return {
        "uid": UID,
        "title": "RLlib DAPO",
        "description": "Curves of DAPO runs on Ray; every gauge is described in the metrics page of rllib-dapo.",
        "tags": ["ray", "rllib", "dapo"],
        "schemaVersion": _SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one cross-hair in all panels
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [
            {
                "title": "Ray's own dashboards",
                "type": "dashboards",
                "tags": ["ray"],
                "asDropdown": True,
                "icon": "external link",
                "includeVars": False,
                "keepTime": True,
                "targetBlank": False,
                "tooltip": "",
                "url": "",
            }
        ],
        "templating": {"list": [_datasource_variable(), *_label_variables()]},
        "panels": list(_panels()),
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=2) + "\n"


def _panels() -> Iterator[dict[str, Any]]:
    """Rows and their panels, three beside each other, from top to bottom."""
    ids, y = count(1), 0
    for row in ROWS:
        yield _row(row.title, next(ids), y)
        y += 1
        charts = [_chart(panel) for panel in row.panels]
        if row is ROWS[-1]:
            charts += [_node_chart(panel) for panel in NODE_PANELS]
        for place, chart in enumerate(charts):
            down, right = divmod(place * _WIDTH, _COLUMNS)
            position = {"h": _HEIGHT, "w": _WIDTH, "x": right, "y": y + down * _HEIGHT}
            yield {"id": next(ids), **chart, "gridPos": position}
        y += -(-len(charts) * _WIDTH // _COLUMNS) * _HEIGHT


def _row(title: str, panel_id: int, y: int) -> dict[str, Any]:
    position = {"h": 1, "w": _COLUMNS, "x": 0, "y": y}
    return {
        "id": panel_id,
        "type": "row",
        "title": title,
        "collapsed": False,
        "panels": [],
        "gridPos": position,
    }


def _chart(panel: Panel) -> dict[str, Any]:
    curves = [_CURVES[name] for name in panel.gauges]
    only = len(curves) == 1
    targets = [
        _target(f"{RAYS_PREFIX}{curve.full_name}{_filter()}", _legend(curve, only=only), place)
        for place, curve in enumerate(curves)
    ]
    meaning = "\n".join(f"- `{curve.name}`: {curve.meaning} ({curve.unit})" for curve in curves)
    return _timeseries(panel.title, panel.unit, meaning, targets, stacked=panel.stacked)


def _node_chart(panel: NodePanel) -> dict[str, Any]:
    target = _target(f'{panel.gauge}{{{_SESSION_LABEL}=~"$session"}}', "{{instance}}", 0)
    return _timeseries(panel.title, panel.unit, panel.meaning, [target], stacked=False)


def _timeseries(
    title: str, unit: str, description: str, targets: list[dict[str, Any]], *, stacked: bool
) -> dict[str, Any]:
    custom = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 30 if stacked else 0,
        "showPoints": "auto",
        "spanNulls": True,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    return {
        "type": "timeseries",
        "title": title,
        "description": description,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "custom": custom}, "overrides": []},
        "options": {
            "legend": {
                "calcs": ["lastNotNull"],
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": targets,
    }


def _target(expression: str, legend: str, place: int) -> dict[str, Any]:
    return {
        "refId": chr(ord("A") + place),
        "datasource": _DATASOURCE,
        "editorMode": "code",
        "expr": expression,
        "legendFormat": legend,
        "range": True,
    }


def _filter() -> str:
    labels = {_SESSION_LABEL: "session", **{tag: tag for tag in TAGS}}
    return "{" + ", ".join(f'{label}=~"${variable}"' for label, variable in labels.items()) + "}"


def _legend(curve: GaugeSpec, *, only: bool) -> str:
    parts = [] if only else [curve.name]
    if curve.tag is not None:
        parts.append(f"{{{{{curve.tag}}}}}")
    return " ".join([*parts, "{{trial}}"])


def _datasource_variable() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
        "includeAll": False,
        "multi": False,
    }


def _label_variables() -> Iterator[dict[str, Any]]:
    """Session, run, trial, module: each lists what there is under the choices before it."""
    source = f"{RAYS_PREFIX}{_CURVES['training_iteration'].full_name}"
    chosen: list[str] = []
    for name, label in (("session", _SESSION_LABEL), *((tag, tag) for tag in TAGS)):
        query = f"label_values({source}{{{', '.join(chosen)}}}, {label})"
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": _DATASOURCE,
            "query": {"query": query, "refId": "StandardVariableQuery"},
            "refresh": 2,  # whenever the time range changes
            "sort": 1,
            "hide": 0,
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        }
        chosen.append(f'{label}=~"${name}"')


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
