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

# In this order they make one script; the last one starts the page.
_SCRIPTS = (
    "elements.js",
    "plots.js",
    "learning_curves.js",
    "sweep.js",
    "trial_table.js",
    "responses.js",
    "timeline.js",
    "start.js",
)


def render_page(content: dict[str, Any]) -> str:
    """Makes the HTML of a report.

    Args:
        content: What `report_content` returns.
    """
    from plotly.offline import get_plotlyjs

    sources = "\n".join(_read_part(name) for name in _SCRIPTS)
    own_script = _without_end_tags(f'"use strict";\n(() => {{\n{sources}\n}})();')
    plotly = _without_end_tags(get_plotlyjs())

    # Plotly's 4.6 MB come last and are started by our own script, so that all texts can be read
    # before the browser has read the library.
    return Template(_read_part("page.html")).substitute(
        title=escape(content["run"]["name"]),
        policy=_content_security_policy([own_script, plotly]),
        style=_read_part("page.css"),
        data=json_in_html(content),
        script=own_script,
        plotly=plotly,
    )


def json_in_html(data: Any) -> str:
    """JSON in which no text can end the surrounding element or turn into markup."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
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


def _content_security_policy(scripts: list[str]) -> str:
    hashes = (
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    )
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    )


def _without_end_tags(script: str) -> str:
    return script.replace("</script", "<\\/script")


def _read_part(name: str) -> str:
    return (files("rllib_dapo.reporting") / "page" / name).read_text(encoding="utf-8")
