"""Memory, time and variance of PPO, GRPO and DAPO as text, from benchmarks/results/claims.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SIDES = {
    "ppo": "PPO, value head on the policy",
    "ppo_two_models": "PPO, value model of its own",
    "grpo": "GRPO",
    "dapo": "DAPO",
}
UNITS = {"peak_mib": "peak memory, MiB", "seconds": "an update, s", "noise_to_signal": "variance"}


def lines(record: Mapping[str, Any]) -> list[str]:
    """The part of the page."""
    first = record["saved"]
    text = [
        "GRPO is said to take 40 to 60 % less memory than PPO, 35 % less time, and to have 60 % "
        "less variance of the gradient (variance: over the square of the mean gradient). "
        "`python benchmarks/claims.py` measures Learners; "
        f"{record['measured']} of {record['planned']} figures are there"
        f" ({record['machine']['cores']} cores, {record['machine']['date']}).",
        "",
    ]
    for what in dict.fromkeys(row["what"] for row in first):
        for against in dict.fromkeys(row["against"] for row in first if row["what"] == what):
            text.append(_sentence(what, against, first))
    text += ["", *_table(record["rows"])]
    return text


def _sentence(what: str, against: str, saved: list[Mapping[str, Any]]) -> str:
    rows = [r for r in saved if r["what"] == what and r["against"] == against]
    shares = ", ".join(f"{r['side']} on `{r['model']}` {100 * r['saved']:.0f} %" for r in rows)
    holds = [r["holds"] for r in rows if r["side"] == "grpo"]
    verdict = "holds" if all(holds) else "holds for some models" if any(holds) else "does not hold"
    return (
        f"- **{100 * rows[0]['claimed']:.0f} % less {what}**, against {SIDES[against]}: {verdict} "
        f"(saved: {shares})."
    )


def _table(rows: list[Mapping[str, Any]]) -> list[str]:
    text = [
        f"| model | | {' | '.join(UNITS.values())} |",
        "| --- " * (2 + len(UNITS)) + "|",
    ]
    for row in rows:
        cells = [_number(row.get(name)) for name in UNITS]
        text.append(f"| `{row['model']}` | {SIDES[row['side']]} | {' | '.join(cells)} |")
    return text


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
