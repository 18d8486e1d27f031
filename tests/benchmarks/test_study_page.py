"""The study and the claims as text and picture, from made-up figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import claims_tables
import pytest
import results_page
from claims import saved
from sample_efficiency import PROTOCOL
from study_picture import study_picture
from study_runs import RunKey
from study_summary import summary
from study_tables import arms_tables, over_tasks_table, rates_table, verdicts
from study_training import COLUMNS


def study(dapo: float, seeds: int = 5) -> dict[str, Any]:
    """A study of GRPO, which ends at 0.4, and DAPO, on one task."""
    runs = {}
    for arm, end in (("grpo", 0.4), ("dapo", dapo)):
        for seed in range(seeds):
            columns: dict[str, Any] = {name: [None, 1.0] for name in COLUMNS}
            columns |= {name: [0.0, 100.0] for name in ("updates", "responses", "tokens")}
            columns |= {"seconds": [0.0, 10.0], "accuracy": [0.0, end]}
            key = RunKey(task="sums", arm=arm, lr=1e-4, seed=seed)
            runs[key] = {"columns": columns, "total_seconds": 30.0}
    return {
        "protocol": dict(PROTOCOL),
        "runs": len(runs),
        "planned": 420,
        **summary(runs, protocol=PROTOCOL, ceilings={"sums": 1.0}),
    }


def test_a_verdict_has_its_figure_and_its_margin() -> None:
    first, second, third, *_ = verdicts(study(0.8))
    assert "holds: 2.00 (2.00 to 2.00), asked 2." in first
    assert "holds: +" not in second
    assert "holds: 0.400 (0.400 to 0.400), asked 0.01." in second
    assert third.endswith("not measured.")
    assert "does not hold: 0.000" in verdicts(study(0.3))[0]


def test_arms_that_were_not_run_are_said_to_be_not_measured() -> None:
    text = "\n".join(arms_tables(study(0.8), "sums"))
    assert "| DAPO | 5 | 0.800 (0.800 to 0.800) | +0.400 (+0.400 to +0.400) |" in text
    assert "Table 1, each with those before it: not measured." in text
    assert "never there" in "\n".join(arms_tables(study(0.3), "sums"))
    rates = "\n".join(rates_table(study(0.8, seeds=2), "sums"))
    assert "| DAPO | not measured | 0.800 (0.800 to 0.800), 2 seeds | not measured |" in rates
    assert "not measured" in over_tasks_table(study(0.8))[0]


def test_the_page_says_how_many_runs_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_page, "_results", lambda name: study(0.8))
    assert "10 of 420 runs are there" in results_page._study()
    monkeypatch.setattr(results_page, "_results", lambda name: None)
    assert results_page._study() == results_page.NOT_MEASURED


def test_the_picture_is_the_same_from_the_same_figures(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        study_picture(study(0.8), "sums", tmp_path / name)
    one, two = ((tmp_path / name).read_bytes() for name in ("one.svg", "two.svg"))
    assert one == two
    assert b"held-out accuracy" in one


def test_claims_as_text() -> None:
    rows = [
        {"side": "ppo", "model": "tiny", "peak_mib": 100.0, "seconds": 2.0},
        {"side": "grpo", "model": "tiny", "peak_mib": 50.0, "seconds": 1.9},
    ]
    record = {
        "measured": 2,
        "planned": 15,
        "rows": rows,
        "saved": saved(rows),
        "machine": {"cores": 2, "date": "2026-01-01"},
    }
    text = "\n".join(claims_tables.lines(record))
    assert "- **40 % less memory**, against PPO, value head on the policy: holds (saved" in text
    assert "- **35 % less time**, against PPO, value head on the policy: does not hold" in text
    assert "| `tiny` | GRPO | 50 | 1.9 |  |" in text
    assert "2 of 15 figures are there" in text
