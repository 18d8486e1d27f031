"""The sweep on docs/choosing_clip_bounds.md is what a benchmark has left, or said to be missing."""

from __future__ import annotations

import runpy

from tests.docs.blocks import REPO

TOOL = runpy.run_path(str(REPO / "tools" / "clip_bounds_result.py"))
RECORD = {
    "task": "Sums",
    "metric": "avg@8",
    "iterations": 30,
    "pairs": [
        {
            "epsilon_low": 0.2,
            "epsilon_high": 0.2,
            "seeds": 5,
            "mean": 0.61,
            "interval": [0.58, 0.65],
        },
        {
            "epsilon_low": 0.2,
            "epsilon_high": 0.28,
            "seeds": 5,
            "mean": 0.7,
            "interval": [0.66, 0.74],
        },
    ],
}


def test_the_page_has_what_the_tool_writes() -> None:
    page = TOOL["PAGE"].read_text()
    assert page.count(TOOL["START"]) == 1
    assert TOOL["written"](page) == TOOL["measured"](TOOL["results"]()), "run: make docs"


def test_without_a_result_the_page_says_so() -> None:
    assert TOOL["measured"](None) == "Not measured yet.\n"


def test_pairs_stand_in_the_order_of_their_means_with_their_intervals() -> None:
    lines = TOOL["measured"](RECORD).splitlines()
    assert lines[0] == "Sums, 30 iterations: avg@8 over seeds, with its 95 % interval."
    assert lines[4:] == [
        "| 0.2 | 0.28 | 5 | 0.700 | 0.660 to 0.740 |",
        "| 0.2 | 0.2 | 5 | 0.610 | 0.580 to 0.650 |",
    ]
