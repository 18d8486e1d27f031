"""Writes figures of benchmarks into README.md and docs/, where the pages have marks for them.

    <!-- figure: rollout.ratio; .2f -->1.03<!-- /figure -->

stands for the entry `ratio` of `benchmarks/results/rollout.json`, written as `.2f` says. Numbers of
a path are places in a list; a path may begin with `1/`. `make docs` and `make results` run this,
and a test compares, so what a page says is what was measured last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
RESULTS = REPO / "benchmarks" / "results"
_FIGURE = re.compile(r"<!-- figure: (?P<path>[^;]+?); (?P<form>\S+) -->.*?<!-- /figure -->")


def pages() -> list[Path]:
    """The pages that figures may stand on."""
    return [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]


def filled(text: str) -> str:
    """A page with its figures as they should be.

    Raises:
        KeyError: If there is no such entry.
    """
    return _FIGURE.sub(
        lambda m: (
            f"<!-- figure: {m['path']}; {m['form']} -->"
            f"{written(m['path'], m['form'])}<!-- /figure -->"
        ),
        text,
    )


def without_figures(text: str) -> str:
    """A page without what stands between the marks, and without the marks."""
    return _FIGURE.sub("", text)


def written(path: str, form: str) -> str:
    """A figure as it stands on a page.

    Args:
        path: Name of the benchmark, and where the figure is in its results, as in `a.b.0`.
        form: Python's format; a percent sign is set off.
    """
    value = figure(path.removeprefix("1/"))
    return format(1 / value if path.startswith("1/") else value, form).replace("%", " %")


def figure(path: str) -> float:
    """The value of an entry.

    Raises:
        KeyError: If there is no such entry.
    """
    name, *keys = path.split(".")
    value: Any = _record(name)
    for key in keys:
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise KeyError(f"{path}: there is no {key!r} in results/{name}.json") from None
    return float(value)


@cache
def _record(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def rewrite(page: Path, change: Callable[[str], str]) -> None:
    """Changes a page, where there is something to change."""
    text = page.read_text(encoding="utf-8")
    changed = change(text)
    if changed != text:
        page.write_text(changed, encoding="utf-8")


def main() -> None:
    """Writes all figures."""
    for page in pages():
        rewrite(page, filled)


if __name__ == "__main__":
    main()
