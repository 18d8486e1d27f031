from __future__ import annotations

from rllib_dapo.run.delayed_lines import DelayedLines


def test_progress_is_told_only_where_it_takes_long() -> None:
    quick: list[str] = []
    slow: list[str] = []
    for said, patience in ((quick, 60.0), (slow, 0.0)):
        progress = DelayedLines(said.append, patience_s=patience)
        for line in ("one", "two"):
            progress(line)
    assert quick == []
    assert slow == ["one", "two"]
