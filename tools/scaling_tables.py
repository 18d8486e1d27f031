"""Writes the tables of docs/scaling.md: every preset's plan, and what was measured.

`make docs` runs this. A table stands between the lines `<!-- table: NAME -->` and `<!-- end -->`;
what stands elsewhere on the page is written by hand. The headers of the run files for GPUs get
their plan, too, between the lines `# [plan]` and `# [end of plan]`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from rllib_dapo.capacity.asked_hardware import asked_gpus, chosen_hardware
from rllib_dapo.capacity.hardware import GIB, GPUS, Hardware
from rllib_dapo.capacity.model_shape import model_shape
from rllib_dapo.capacity.plan_findings import plan_findings
from rllib_dapo.capacity.plan_table import duration, gib
from rllib_dapo.capacity.run_plan import RunPlan, make_plan
from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.run.planned_configs import planned_configs
from rllib_dapo.run.preset_files import preset_files

REPO = Path(__file__).resolve().parents[1]
PAGE = REPO / "docs" / "scaling.md"
MEASURED = REPO / "benchmarks" / "results" / "plan_memory.json"
SCALE = REPO / "benchmarks" / "results" / "scale.json"
# 16 x 8 GPUs, an engine on each, at several speeds; groups are those of benchmarks/scale.py: 16
# responses of log-normal lengths, cut off, with this mean.
ENGINES, TOKENS_PER_SECOND, TOKENS_PER_GROUP = 128, (5_000, 20_000, 80_000), 16 * 3_400
_TABLE = re.compile(r"<!-- table: (\w+) -->\n.*?<!-- end -->", re.DOTALL)
_HEADER = re.compile(r"(# \[plan\]\n).*?(# \[end of plan\]\n)", re.DOTALL)

NOT_FOR_TRAINING = ("evaluate_aime2024", "two_cores")
SMALL_MACHINE = Hardware(name="two cores", cpus_per_node=2, memory_per_node=8 * GIB)
KINDS = {"one_gpu_0.5b": "rtx4090-24gb"}


def preset_plan(name: str) -> tuple[RunPlan, DAPOConfig, list[str]]:
    """The plan of a preset on what it is for: its largest variant, and all findings.

    Args:
        name: Name of the preset.
    """
    configs, _ = planned_configs(preset_files()[name], [])
    asked = asked_gpus(configs)
    hardware = SMALL_MACHINE
    if asked:
        hardware = chosen_hardware(asked, KINDS.get(name, "h100-80gb"))

    plans = [
        (make_plan(config, model_shape(str(config.model_name), fetch=False), hardware), config)
        for config in configs
    ]
    plan, config = max(plans, key=lambda pair: pair[0].learner.total)
    findings = [text for one, its in plans for text in plan_findings(one, its)]
    return plan, config, list(dict.fromkeys(findings))


def table(name: str) -> str:
    """The table of that name, in Markdown.

    Raises:
        KeyError: If there is no such table.
    """
    tables = {"presets": _presets, "measured": _measured, "gpus": _gpus, "driver": _driver}
    return tables[name]()


def page(text: str) -> str:
    """The page with its tables as they should be."""
    return _TABLE.sub(
        lambda m: f"<!-- table: {m.group(1)} -->\n{table(m.group(1))}\n<!-- end -->", text
    )


def run_file(name: str, text: str) -> str:
    """A run file with its plan in the header, where it has a place for one.

    Args:
        name: Name of the preset.
        text: What the file holds.
    """
    if not _HEADER.search(text):
        return text
    lines = "".join(f"# {line}\n" for line in header_lines(name))
    return _HEADER.sub(lambda m: m.group(1) + lines + m.group(2), text)


def header_lines(name: str) -> list[str]:
    """A preset's plan in a few lines."""
    plan, _, findings = preset_plan(name)
    learner, engine, seconds = plan.learner, plan.engine, plan.seconds
    assert seconds is not None
    parts = ", ".join(f"{part} {gib(size)}" for part, size in learner.device.items())
    mean = min(engine.at_once_mean, plan.engines.concurrency)
    room = f" of {gib(plan.learner_room)}" if plan.learner_room else ""
    return [
        f"- {plan.hardware.text}",
        f"- each Learner {gib(learner.total)}{room}: {parts}",
        f"- main memory while a Learner loads: {gib(learner.loading)}",
        f"- each GPU of an engine: weights {gib(engine.parts['weights'])}, keys and values "
        f"{gib(max(0.0, engine.cache))}: {int(mean)} responses of {plan.response_tokens:,.0f} "
        "tokens at once",
        f"- a step: sampling {duration(seconds.sampling)}, training {duration(seconds.training)}, "
        f"weights to the engines {duration(seconds.transfer)}",
        *(f"- does not fit: {finding}" for finding in findings),
    ]


def _presets() -> str:
    lines = [
        "| preset | machines | a Learner | loading | an engine: weights, cache | responses at once "
        "| sampling, training, weights | fits |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in preset_files():
        if name in NOT_FOR_TRAINING:
            continue
        plan, _, findings = preset_plan(name)
        seconds, engine = plan.seconds, plan.engine
        assert seconds is not None
        mean = min(engine.at_once_mean, plan.engines.concurrency)
        cells = (
            f"`{name}`",
            plan.hardware.text,
            f"{plan.learners.count} x {gib(plan.learner.total)}, {plan.learners.text}",
            gib(plan.learner.loading) if plan.learner.loading else "",
            f"{plan.engines.count} x {gib(engine.parts['weights'])}, {gib(max(0.0, engine.cache))}",
            f"{int(mean)} of {plan.response_tokens:,.0f} tokens",
            f"{duration(seconds.sampling)}, {duration(seconds.training)}, "
            f"{duration(seconds.transfer)}",
            "no: " + "; ".join(findings) if findings else "yes",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _measured() -> str:
    record = json.loads(MEASURED.read_text(encoding="utf-8"))
    lines = [
        "| model | process | planned | measured | planned / measured |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in record["rows"]:
        lines.append(
            f"| `{row['model']}`, {row['parameters'] / 1e6:.1f}M | {row['side']} | "
            f"{row['planned_mib']:,.0f} MiB | {row['peak_mib']:,.0f} MiB | {row['ratio']:.2f} |"
        )
    return "\n".join(lines)


def _driver() -> str:
    """What the driver took, and what it would take for many GPUs at its dearest group."""
    rows = json.loads(SCALE.read_text(encoding="utf-8"))["rows"]
    lines = [
        "| | groups a second | driver, ms a group | driver, share of a core |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| measured, {row['env_runners']} EnvRunners | {row['groups_per_second']:,.0f} | "
            f"{row['driver_milliseconds_per_group']:.2f} | {row['driver_share_of_a_core']:.2f} |"
        )
    dearest = max(row["driver_milliseconds_per_group"] for row in rows)
    for speed in TOKENS_PER_SECOND:
        groups = ENGINES * speed / TOKENS_PER_GROUP
        lines.append(
            f"| predicted, 16 x 8 GPUs at {speed:,} tokens a second each | {groups:,.0f} | "
            f"{dearest:.2f} | {groups * dearest / 1000:.2f} |"
        )
    return "\n".join(lines)


def _gpus() -> str:
    lines = [
        "| `--gpu` | usable GiB | bfloat16, float32 Tflop/s | its memory GB/s | to another GPU, to "
        "main memory GB/s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for gpu in GPUS.values():
        lines.append(
            f"| `{gpu.name}` | {gpu.memory / GIB:.1f} | {gpu.bfloat16_flops / 1e12:g}, "
            f"{gpu.float32_flops / 1e12:g} | {gpu.bandwidth / 1e9:,.0f} | {gpu.link / 1e9:g}, "
            f"{gpu.host_link / 1e9:g} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Rewrites the page, and the headers of run files."""
    files = {path: run_file(name, path.read_text()) for name, path in preset_files().items()}
    files[PAGE] = page(PAGE.read_text(encoding="utf-8"))
    for path, text in files.items():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.name}: written\n")


if __name__ == "__main__":
    main()
