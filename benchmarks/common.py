"""What all benchmarks share: measuring in turn, the machine's description, the result file."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison.

    Attributes:
        label: What was measured.
        unit: Unit of the values.
        values: One value per round.
    """

    label: str
    unit: str
    values: list[float]

    @property
    def median(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.values)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that `work` takes, and what it returns."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def alternate(
    ours: Callable[[], float], other: Callable[[], float], *, rounds: int
) -> tuple[list[float], list[float]]:
    """Measures both sides in turn, so that a change of the machine's load affects both alike.

    The first round of each is a warm-up and does not count.

    Args:
        ours: Function that runs our side once and returns its value.
        other: The same for the other side.
        rounds: Number of rounds that count.
    """
    figures: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds + 1):
        for side, measure in zip(figures, (ours, other), strict=True):
            value = measure()
            if i:
                side.append(value)
        outcome = f": {figures[0][-1]:.1f} and {figures[1][-1]:.1f}" if i else " (warm-up)"
        print(f"round {i} of {rounds}{outcome}", flush=True)
    return figures


def report(
    name: str,
    *,
    ours: Side,
    other: Side,
    target: float,
    higher_is_better: bool = True,
    also: Mapping[str, tuple[float, float]] | None = None,
    **details: Any,
) -> None:
    """Prints both sides and their ratio, writes `results/NAME.json`, and ends the process.

    The ratio is over 1 where our side is better. The exit status is 1 if it misses the target.

    Args:
        name: Name of the benchmark.
        ours: Our side.
        other: The other side.
        target: Value that the ratio must reach.
        higher_is_better: Whether a higher value of a side is better, as with tokens per second.
        also: Further figures by name, each with the limit that it must not exceed.
        **details: Further entries of the file, which are not printed.
    """
    ratio = ours.median / other.median if higher_is_better else other.median / ours.median
    limits = {
        label: {"value": round(v, 3), "limit": m, "holds": v <= m}
        for label, (v, m) in (also or {}).items()
    }
    holds = ratio >= target and all(limit["holds"] for limit in limits.values())

    RESULTS.mkdir(exist_ok=True)
    record = {
        "name": name,
        "ratio": round(ratio, 3),
        "target": target,
        "holds": holds,
        "ours": asdict(ours) | {"median": ours.median},
        "other": asdict(other) | {"median": other.median},
        "also": limits,
        "details": details,
        "machine": machine(),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")

    for side in (ours, other):
        print(f"{side.label}: {side.median:.1f} {side.unit}")
    print(f"{name}: ratio {ratio:.2f} (target {target}, {_verdict(ratio >= target)})")
    for label, limit in limits.items():
        verdict = _verdict(limit["holds"])
        print(f"{name}: {label} {limit['value']:.2f} (at most {limit['limit']}, {verdict})")
    sys.exit(0 if holds else 1)


def _verdict(holds: bool) -> str:
    return "holds" if holds else "MISSED"


def machine() -> dict[str, Any]:
    """Describes the machine that the figures come from, and when that was."""
    import torch

    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": len(os.sched_getaffinity(0)),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def math_environment(*, short: bool = False) -> tuple[str, dict[str, Any]]:
    """An environment with prompts for SmolLM2: word problems if the data is there, else sums.

    Args:
        short: Whether to ask simple problems and want only one or two sentences, as in
            `smollm2_mawps.yaml`.

    Returns:
        The environment's name and its configuration.
    """
    path = SHARED_DATA / ("mawps-addsub.jsonl" if short else "gsm8k-train.jsonl")
    request = (
        " Think step by step, in one or two short sentences. End with the answer, a number."
        if short
        else ""
    )

    if path.is_file():
        return "rllib_dapo/Math-v0", {
            "path": str(path),
            "answer_rule": "last_number",
            "template": "{problem}" + request,
        }
    print(f"{path} is not there: using rllib_dapo/Arithmetic-v0")
    return "rllib_dapo/Arithmetic-v0", {"template": "What is {expression}?" + request}
