"""Writes the table of docs/weights.md from the results of benchmarks/weight_transfer.py.

python tools/weight_transfer_table.py            # rewrites what stands between the two marks
python tools/weight_transfer_table.py --print    # prints it
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

REPO = Path(__file__).parents[1]
PAGE = REPO / "docs" / "weights.md"
RESULTS = REPO / "benchmarks" / "results" / "weight_transfer.json"
START, END = "<!-- weights: benchmark -->\n", "<!-- end -->\n"


def table() -> str:
    """The figures of each way as a table in Markdown, under what was measured."""
    record = json.loads(RESULTS.read_text())
    reference, step = record["reload_weights"], record["step"]
    lines = [
        f"{record['model']}, a Learner and {record['engines']} engines in processes of their own, "
        f"on {record['machine']['cores']} CPU cores; medians. A step takes {step['seconds']:.0f} s "
        f"({step['source']}).",
        "",
        "| | seconds | bytes | times `reload_weights` | of a training step |",
        "| --- | --- | --- | --- | --- |",
        f"| vLLM's own `reload_weights`, one engine, tensors at hand in its process | "
        f"{reference['seconds']:.2f} | {reference['bytes'] / 1e6:.0f} MB | 1 | |",
    ]
    lines += [
        f"| `{name}` to {record['engines']} engines | {way['seconds']:.2f} | "
        f"{way['bytes'] / 1e6:.0f} MB | {way['ratio']:.2f} | {100 * way['share_of_step']:.1f} % |"
        for name, way in record["ways"].items()
    ]
    if check := record.get("arrival_check"):
        share = 100 * 2 * check["seconds"] / step["seconds"]
        lines.append(
            f"| comparing what the engines hold with the Learner's, twice in a step | "
            f"2 × {check['seconds']:.2f} | | | {share:.1f} % |"
        )
    return "\n".join(lines) + "\n"


def written_table(page: str) -> str:
    """What the page has between the marks now."""
    return page.partition(START)[2].partition(END)[0]


def main() -> None:
    """Prints the table, or writes it into the page."""
    if "--print" in sys.argv[1:]:
        sys.stdout.write(table())
        return
    page = PAGE.read_text()
    PAGE.write_text(page.replace(START + written_table(page), START + table(), 1))


if __name__ == "__main__":
    main()
