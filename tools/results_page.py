"""Writes docs/results.md, and its pictures, from what the benchmarks have left in files.

    python tools/results_page.py            # the page, its pictures, and figures on other pages
    python tools/results_page.py --print    # prints the page

Nothing on that page is written by hand. What a benchmark measures is said by the first line of its
script; its figures, machine and date by `benchmarks/results/NAME.json`.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))

import claims_tables
import figures
import study_tables

REPO = Path(__file__).resolve().parents[1]
PAGE, IMAGES = REPO / "docs" / "results.md", REPO / "docs" / "images"
RESULTS = REPO / "benchmarks" / "results"
STUDY, CLAIMS = "sample_efficiency", "claims"
# Results of a script with other arguments.
COMMANDS = {
    "rollout_tiny": "rollout.py --tiny",
    "shared_prompts": "shared_prompts.py --dtype float32 --prompts 1 --rounds 1",
    "step_vs_trl_long_prompts": "step_vs_trl.py --long-prompts",
    "sweep_overhead_at_once": "sweep_overhead.py --at-once",
    "scale_long": "scale.py --long",
}
# Results of scripts elsewhere.
ELSEWHERE = {"warm_start": "examples/warm_start.py mawps.jsonl"}

HEAD = """# Results
What was measured, with what came out, holding or not. `make results` writes this page from \
`benchmarks/results/`; `make bench` measures the ratios anew and `make bench-long` the studies, \
which go on where they were interrupted.
"""
STUDY_HEAD = """
## DAPO against GRPO
The paper (arXiv 2503.14476) reports, for Qwen2.5-32B on AIME 2024, 50 points for DAPO, 30 for \
naive GRPO, and 47 for DeepSeek-R1-Zero-Qwen-32B, which DAPO passes with half of the steps. Here \
tiny models learn tasks that two CPU cores can train in minutes. That says whether the techniques \
do what they are to do, not how much a large model gains.
"""
NOT_MEASURED = "Not measured yet.\n"


def page() -> str:
    """The whole page."""
    parts = [HEAD, STUDY_HEAD, _study(), _claims(), "\n## Every other benchmark\n"]
    for path in sorted(RESULTS.glob("*.json")):
        if path.stem not in (STUDY, CLAIMS):
            parts.append(benchmark(json.loads(path.read_text(encoding="utf-8")), path.stem))
    return "".join(parts)


def _study() -> str:
    record = _results(STUDY)
    if record is None:
        return NOT_MEASURED
    protocol = record["protocol"]
    lines = [
        f"{record['runs']:,} of {record['planned']:,} runs are there: arms, tasks, learning rates "
        f"and {len(protocol['seeds'])} seeds; the median run took {record['seconds_a_run']:.0f} s.",
        "",
        *study_tables.verdicts(record),
        "",
        "The protocol was fixed before the first run: "
        + ", ".join(f"`{name}` {_shown(value)}" for name, value in protocol.items())
        + ". A claim holds where the figure reaches its margin and its 95 % interval is on the "
        "right side of no difference.",
        "",
        "Accuracy is avg@k on problems that are never trained on, as the interquartile mean over "
        "seeds with its bootstrap interval "
        "([arXiv 2108.13264](https://arxiv.org/abs/2108.13264)). Times fewer: what GRPO's median "
        "curve costs to come to its best, over what the arm's costs to come there. Tokens are all "
        "that were sampled, those of dropped groups too; seconds are without evaluations. The "
        "variance is that of the gradient's norm over the training steps since the evaluation "
        "before: no metric gives that of single mini-batches.",
        "",
        *study_tables.over_tasks_table(record),
        "",
    ]
    for task, title in record["tasks"].items():
        lines += [f"### {title[0].upper()}{title[1:]}", ""]
        if not any(row["task"] == task for row in record["cells"]):
            lines += [NOT_MEASURED]
            continue
        lines += [
            f"The highest accuracy possible without punishment is {record['ceilings'][task]:g}. "
            f"All at a learning rate of {protocol['primary_lr']:g}.",
            "",
            f"![Accuracy against updates, tokens and seconds; entropy, length, variance]"
            f"(images/{picture_name(task)})",
            "",
            *study_tables.arms_tables(record, task),
            "Accuracy at the end at each learning rate:",
            "",
            *study_tables.rates_table(record, task),
            "",
        ]
    return "\n".join(["", *lines])


def _claims() -> str:
    record = _results(CLAIMS)
    head = "\n## Memory, time and variance without a value model\n"
    if record is None:
        return head + NOT_MEASURED
    return head + "\n".join(claims_tables.lines(record)) + "\n"


def benchmark(record: Mapping[str, Any], name: str) -> str:
    """A benchmark's part of the page.

    Args:
        record: Its results.
        name: Name of the file.
    """
    command = ELSEWHERE.get(name) or f"benchmarks/{COMMANDS.get(name, f'{name}.py')}"
    rows = [("command", f"`python {command}`")]
    rows += [("machine", _machine(record["machine"]))] if "machine" in record else []
    rows.append(("date", record.get("machine", {}).get("date", "not recorded")))
    for side, label in (("ours", "this package"), ("other", "against")):
        if side in record:
            values = record[side]
            rows.append(
                (
                    label,
                    f"{values['label']}: {_shown(values['median'])} {values['unit']}".rstrip()
                    + ", "
                    f"median of {len(values['values'])}",
                )
            )
    if "ratio" in record:
        rows.append(("ratio, over 1 where this package is better", f"{record['ratio']:.2f}"))
        rows.append(("target", _shown(record["target"])))
    for label, limit in record.get("also", {}).items():
        rows.append((label, f"{_shown(limit['value'])}, at most {_shown(limit['limit'])}"))
    if "holds" in record:
        rows.append(("verdict", "holds" if record["holds"] else "**missed**"))

    lines = ["", f"### {name.replace('_', ' ')}", _purpose(command), "", "| | |", "| --- | --- |"]
    lines += [f"| {label} | {value} |" for label, value in rows]
    return "\n".join([*lines, *_further(record), ""])


def _further(record: Mapping[str, Any]) -> list[str]:
    """Rows of results that have more than two sides."""
    rows = record.get("rows")
    if isinstance(record.get("ways"), dict):
        rows = [{"way": name, **way} for name, way in record["ways"].items()]
    if not isinstance(rows, list) or not rows:
        return []
    columns = [name for name, value in rows[0].items() if not isinstance(value, dict | list)]
    lines = ["", f"| {' | '.join(columns).replace('_', ' ')} |", "| --- " * len(columns) + "|"]
    lines += [f"| {' | '.join(_shown(row.get(name)) for name in columns)} |" for row in rows]
    return lines


def _purpose(command: str) -> str:
    """First line of a script's docstring."""
    script = REPO / command.split()[0]
    if not script.is_file():
        return ""
    docstring = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def _machine(machine: Mapping[str, Any]) -> str:
    gpu = machine.get("gpu") or "no GPU"
    return (
        f"{machine['cores']} cores, {machine['processor']}, {gpu}; Python {machine['python']}, "
        f"torch {machine['torch']}"
    )


def _shown(value: Any) -> str:
    """A value of JSON in a cell."""
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _results(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def picture_name(task: str) -> str:
    """Name of a task's picture in docs/images."""
    return f"{STUDY}_{task}.svg"


def main() -> None:
    """Prints the page, or writes everything."""
    if "--print" in sys.argv[1:]:
        sys.stdout.write(page())
        return
    record = _results(STUDY)
    if record is not None:
        from study_picture import study_picture

        for task in record["tasks"]:
            if any(row["task"] == task for row in record["cells"]):
                study_picture(record, task, IMAGES / picture_name(task))
    PAGE.write_text(page(), encoding="utf-8")
    figures.main()


if __name__ == "__main__":
    main()
