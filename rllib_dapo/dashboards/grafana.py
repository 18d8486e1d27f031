"""Grafana's JSON of the dashboard, made of the table of gauges.

Every gauge of `tracking.gauges` is on a panel, so a new metric cannot be missing here. The JSON is
also committed, because people import it into a Grafana of their own, and a test compares it with
what this module makes. `python -m rllib_dapo.dashboards.grafana` writes the file again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from rllib_dapo.dashboards.grafana_panels import NODE_PANELS, ROWS, NodePanel, Panel
from rllib_dapo.tracking.gauges import GAUGES, TAGS, GaugeSpec

UID = "rllib-dapo"
DASHBOARD_FILE = Path(__file__).with_name("rllib_dapo_grafana_dashboard.json")
RAY_PREFIX = "ray_"  # which Ray puts before the name of every gauge that it exports
_SESSION_LABEL = "SessionName"
_SCHEMA_VERSION = 39  # Grafana 11's; newer ones migrate it when they load it
_COLUMNS, _WIDTH, _HEIGHT = 24, 8, 7  # of the page, and of a panel, in units of Grafana's grid
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_GAUGES = {gauge.name: gauge for gauge in GAUGES}


def dashboard() -> dict[str, Any]:
    """The dashboard: rows of panels, and variables that select session, run, trial and module."""
    return {
        "uid": UID,
        "title": "RLlib DAPO",
        "description": (
            "Curves of DAPO runs on Ray. The documentation of rllib-dapo describes every gauge."
        ),
        "tags": ["ray", "rllib", "dapo"],
        "schemaVersion": _SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # the cross-hair is shown in all panels
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


def dashboard_json() -> str:
    """The dashboard as the content of a file."""
    return json.dumps(dashboard(), indent=2) + "\n"


def _panels() -> Iterator[dict[str, Any]]:
    """Rows and their panels, three side by side, from top to bottom."""
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

        y += -(-len(charts) * _WIDTH // _COLUMNS) * _HEIGHT  # lines of panels, rounded up


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
    gauges = [_GAUGES[name] for name in panel.gauges]
    is_only = len(gauges) == 1
    targets = [
        _target(f"{RAY_PREFIX}{gauge.full_name}{_label_filter()}", _legend(gauge, is_only), place)
        for place, gauge in enumerate(gauges)
    ]
    meaning = "\n".join(f"- `{gauge.name}`: {gauge.meaning} ({gauge.unit})" for gauge in gauges)
    return _timeseries(panel.title, panel.unit, meaning, targets, stacked=panel.stacked)


def _node_chart(panel: NodePanel) -> dict[str, Any]:
    # Machines belong to a session of Ray, not to a trial.
    query = f'{panel.gauge}{{{_SESSION_LABEL}=~"$session"}}'
    target = _target(query, "{{instance}}", 0)
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


def _label_filter() -> str:
    """Selects the series that the dashboard's variables choose."""
    labels = {_SESSION_LABEL: "session", **{tag: tag for tag in TAGS}}
    return "{" + ", ".join(f'{label}=~"${variable}"' for label, variable in labels.items()) + "}"


def _legend(gauge: GaugeSpec, is_only: bool) -> str:
    """What a curve is called: the gauge, unless the panel has no other, its tag, and the trial."""
    parts = [] if is_only else [gauge.name]
    if gauge.tag is not None:
        parts.append(f"{{{{{gauge.tag}}}}}")
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
    """Session, run, trial, module: each lists what exists under the choices before it."""
    source = f"{RAY_PREFIX}{_GAUGES['training_iteration'].full_name}"
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
    DASHBOARD_FILE.write_text(dashboard_json(), encoding="utf-8")
