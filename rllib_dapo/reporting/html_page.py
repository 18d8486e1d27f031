"""A report as one HTML file that opens without a network.

What a run says is not to be trusted: responses are whatever a model came up with. It all travels as
JSON in an element that browsers do not run, and scripts put it on the page as text. The page's own
policy lets no script run but those two that were put there, told by their hashes, and lets nothing
be fetched from anywhere.
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

_SCRIPTS = ("base.js", "curves.js", "sweep.js", "table.js", "responses.js", "main.js")


def page(data: dict[str, Any]) -> str:
    """The HTML.

    Args:
        data: A report's content.
    """
    from plotly.offline import get_plotlyjs

    own = "\n".join(_part(name) for name in _SCRIPTS)
    scripts = [
        _without_end_tags(script)
        for script in (f'"use strict";\n(() => {{\n{own}\n}})();', get_plotlyjs())
    ]
    return Template(_part("page.html")).substitute(
        title=escape(data["run"]["name"]),
        policy=_policy(scripts),
        style=_part("page.css"),
        data=json_in_html(data),
        script=scripts[0],
        plotly=scripts[1],
    )


def json_in_html(data: Any) -> str:
    """JSON that no text in it can end, nor turn into markup."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def link_from(page_path: Path) -> Callable[[str], str]:
    """Makes links that stay right when a run's folder is moved or copied with the page in it.

    Args:
        page_path: Where the page will be.

    Returns:
        A function from a local path to a relative link.
    """
    start = page_path.absolute().parent
    return lambda path: quote(os.path.relpath(path, start))


def no_link(path: str) -> str:
    """For what no browser can open as it stands: a folder in a bucket."""
    return ""


def _policy(scripts: list[str]) -> str:
    hashes = (
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    )
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    )


def _without_end_tags(script: str) -> str:
    return script.replace("</script", "<\\/script")


def _part(name: str) -> str:
    return (files("rllib_dapo.reporting") / "page" / name).read_text(encoding="utf-8")
