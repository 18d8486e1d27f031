"""Writes the measured sweep into docs/choosing_clip_bounds.md, from what a benchmark has left.

`make docs` runs this. The file `benchmarks/results/clip_bounds.json` holds `task`, `metric`,
`iterations`, and `pairs`: for each its `epsilon_low`, `epsilon_high`, number of `seeds`, `mean` of
the metric over them and its 95 % `interval` as two numbers. Without the file the page says that
nothing was measured yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
PAGE = REPO / "docs" / "choosing_clip_bounds.md"
RESULTS = REPO / "benchmarks" / "results" / "clip_bounds.json"
START, END = "<!-- clip bounds: measured -->\n", "<!-- end -->\n"
NOT_MEASURED = "Not measured yet.\n"


def measured(record: Mapping[str, Any] | None) -> str:
    """The figures of each pair of bounds as a table in Markdown, the best first.

    Args:
        record: What the benchmark left; None if it left nothing.
    """
    if record is None:
        return NOT_MEASURED
    lines = [
        f"{record['task']}, {record['iterations']} iterations: {record['metric']} over seeds, with "
        "its 95 % interval.",
        "",
        "| `epsilon_low` | `epsilon_high` | seeds | mean | interval |",
        "| --- | --- | --- | --- | --- |",
    ]
    for pair in sorted(record["pairs"], key=lambda pair: -pair["mean"]):
        low, high = pair["interval"]
        lines.append(
            f"| {pair['epsilon_low']:g} | {pair['epsilon_high']:g} | {pair['seeds']} | "
            f"{pair['mean']:.3f} | {low:.3f} to {high:.3f} |"
        )
    return "\n".join(lines) + "\n"


def results() -> Mapping[str, Any] | None:
    """What the benchmark left, or None."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else None


def written(page: str) -> str:
    """What the page has between the marks now."""
    return page.partition(START)[2].partition(END)[0]


def main() -> None:
    """Writes the figures into the page."""
    page = PAGE.read_text(encoding="utf-8")
    new = page.replace(START + written(page), START + measured(results()), 1)
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
