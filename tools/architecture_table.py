"""Tries architectures end to end with small random models, and writes what came out as a table.

    python tools/architecture_table.py                 # rewrites docs/architectures.md and its JSON
    python tools/architecture_table.py llama mixtral   # tries these and prints their rows

For each architecture, in float32, with weights that were changed after the engines had started:

- hand-over: the log-probabilities of what an engine samples against the Learner's,
- shared rows: responses that share a prompt, against rows of their own, beyond every window,
- restored: weights and log-probabilities of a saved and restored Learner, bit by bit,
- exported: the exported folder in transformers and in vLLM.

vLLM runs in a process of its own, as it does in training: it changes some of transformers' classes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from architecture_engines import EngineProcess
from architecture_trial import Row, try_architecture
from architectures import ARCHITECTURES

REPO = Path(__file__).resolve().parents[1]
PAGE, FIGURES = REPO / "docs" / "architectures.md", REPO / "docs" / "architectures.json"
MARKS = ("<!-- architectures -->\n", "<!-- end -->")


def try_all(names: Sequence[str], say: Callable[[str], None]) -> list[Row]:
    """Tries architectures one after the other.

    Args:
        names: Keys of `ARCHITECTURES`.
        say: Receives a line about each.
    """
    torch.set_num_threads(1)
    engine = EngineProcess()
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(try_architecture(name, engine=engine, folder=Path(folder)))
        say(f"{name}: {rows[-1].results} {rows[-1].notes}")
    engine.close()
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    columns = list(dict.fromkeys(column for row in rows for column in row.results))
    lines = [
        f"| architecture | {' | '.join(columns)} | slower |",
        "| --- |" + " --- |" * (len(columns) + 1),
    ]
    for row in rows:
        cells = [_cell(row.results.get(column, "")) for column in columns]
        lines.append(f"| {row.name} | {' | '.join(cells)} | {'; '.join(row.notes)} |")
    return "\n".join(lines) + "\n"


def _cell(value: float | str) -> str:
    return f"{value:.0e}" if isinstance(value, float) else value.replace("|", "/")


def main() -> None:
    """Prints rows, or writes them all into the page."""
    wanted = [word.lower() for word in sys.argv[1:]]
    names = [
        name for name in ARCHITECTURES if not wanted or any(word in name.lower() for word in wanted)
    ]
    rows = try_all(names, print)
    if wanted:
        print(markdown(rows))
        return

    FIGURES.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    page = PAGE.read_text()
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    PAGE.write_text(before + MARKS[0] + markdown(rows) + MARKS[1] + after)


if __name__ == "__main__":
    main()
