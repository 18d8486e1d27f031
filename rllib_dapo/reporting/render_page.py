"""A report as one HTML file that opens without a network.

Nothing in a run can be trusted: a response is whatever a model came up with. So all of it travels
as JSON in an element that browsers do not run, and scripts put it on the page as text. The page's
own content security policy allows only the two scripts that were put there, which it names by their
hashes, and allows nothing to be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from rllib_dapo.reporting.packed_text import packed

_PAGE = "page"
# In this order they make one script; the last one starts the page.
SCRIPTS = (
    "elements.js",
    "unpacked.js",
    "theme_colors.js",
    "plots.js",
    "outcomes.js",
    "trial_choice.js",
    "trial_curves.js",
    "line_traces.js",
    "hover_list.js",
    "downloads.js",
    "stacked_tables.js",
    "learning_curves.js",
    "settings_map.js",
    "parallel_coordinates.js",
    "sweep.js",
    "trial_table.js",
    "trial_difference.js",
    "response_filter.js",
    "responses.js",
    "time_split.js",
    "timeline.js",
    "overview.js",
    "configuration.js",
    "live.js",
    "start.js",
)


def render_page(content: dict[str, Any], *, is_live: bool = False) -> str:
    """Makes the HTML of a report.

    Args:
        content: What `report_content` returns.
        is_live: Whether the page asks the server that it comes from for newer figures.
    """
    sources = "\n".join(_read_part(_PAGE, name) for name in SCRIPTS)
    own_script = _without_end_tags(f'"use strict";\n(() => {{\n{sources}\n}})();')
    plotly = _read_part("vendored", "plotly-cartesian.min.js")

    # Plotly comes last and is started by our own script, so that all texts can be read before the
    # browser has read the library.
    parts = page_parts(content)
    return Template(_read_part(_PAGE, "page.html")).substitute(
        title=escape(content["run"]["name"]),
        policy=_content_security_policy([own_script, plotly], is_live=is_live),
        live="true" if is_live else "false",
        style=_read_part(_PAGE, "page.css") + _read_part(_PAGE, "parts.css"),
        data=json_in_html(parts["data"]),
        figures=packed(_json(parts["figures"])),
        prompts=packed(_json(parts["prompts"])),
        script=own_script,
        plotly=packed(plotly),
    )


def page_parts(content: dict[str, Any]) -> dict[str, Any]:
    """Takes what is long out of a report's content, so that the rest can be read at once.

    Args:
        content: What `report_content` returns.

    Returns:
        The `data` without what follows, and for each trial its `figures` and its `prompts`. A curve
        that has a point for each entry of the trial's horizontal axes is without its `x`.
    """
    long = ("figures", "prompts")
    short = [{k: v for k, v in trial.items() if k not in long} for trial in content["trials"]]
    figures = [
        {name: _without_usual_x(curve, trial) for name, curve in trial["figures"].items()}
        for trial in content["trials"]
    ]
    return {
        "data": {**content, "trials": short},
        "figures": figures,
        "prompts": [trial["prompts"] for trial in content["trials"]],
    }


def _without_usual_x(curve: dict[str, list], trial: dict[str, Any]) -> dict[str, list]:
    return {"y": curve["y"]} if curve["x"] == trial["x"]["iteration"] else curve


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def json_in_html(data: Any) -> str:
    """JSON in which no text can end the surrounding element or turn into markup."""
    text = _json(data)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def link_from(page_path: Path) -> Callable[[str], str]:
    """Makes links that stay right when a run's folder is moved or copied with the page in it.

    Args:
        page_path: Path that the page will have.

    Returns:
        A function from a local path to a relative link.
    """
    start = page_path.absolute().parent
    return lambda path: quote(os.path.relpath(path, start))


def no_link(path: str) -> str:
    """Stands in for `link_from` where no browser can open a path: in a bucket."""
    return ""


def _content_security_policy(scripts: list[str], *, is_live: bool) -> str:
    hashes = (
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    )
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    )
    return f"{policy}; connect-src 'self'" if is_live else policy


def _without_end_tags(script: str) -> str:
    return script.replace("</script", "<\\/script")


def _read_part(folder: str, name: str) -> str:
    return files("rllib_dapo.reporting").joinpath(folder, name).read_text(encoding="utf-8")
