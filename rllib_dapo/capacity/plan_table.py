"""A plan as text of at most 80 columns."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

from rllib_dapo.capacity.hardware import GIB
from rllib_dapo.capacity.run_plan import RunPlan

WIDTH = 80


def plan_lines(plan: RunPlan, *, name: str, model: str) -> list[str]:
    """The plan as lines: what each process holds, and what a step takes.

    Args:
        plan: The plan.
        name: Name of the run.
        model: Name of its model.
    """
    shape = plan.shape
    active = (
        f", {_count(shape.active_parameters)} of them for each token"
        if shape.experts_per_token
        else ""
    )
    return [
        f"{name}: {model}, {_count(shape.parameters)} parameters{active}",
        f"on {plan.hardware.name}: {plan.hardware.text}",
        "",
        *_table(_learner_rows(plan), _learner_title(plan)),
        "",
        *_table(_engine_rows(plan), _engine_title(plan)),
        "",
        *_turn_lines(plan),
        *_table(list(_step_rows(plan)), "one step"),
    ]


def _learner_title(plan: RunPlan) -> str:
    learners = plan.learners
    where = f"{learners.gpus:g} GPU" if learners.gpus else "CPU"
    return f"{_number(learners.count, 'Learner')} on {where}, {learners.text}, {learners.precision}"


def _engine_title(plan: RunPlan) -> str:
    engines = plan.engines
    parts = (
        f"{engines.tensor_parallel} x {engines.pipeline_parallel}" if engines.workers > 1 else ""
    )
    where = f"{engines.gpus:g} GPU{'s' if engines.gpus > 1 else ''}" if engines.gpus else "CPU"
    spread = f", spread {parts}" if parts else ""
    return f"{_number(engines.count, 'engine')} on {where}{spread}, {engines.kind}, {engines.dtype}"


def _learner_rows(plan: RunPlan) -> list[tuple[str, str]]:
    rows = [(part, gib(size)) for part, size in plan.learner.device.items()]
    rows.append(("together", _of(plan.learner.total, plan.learner_room, plan.learner_fits)))
    if plan.learner.host:
        rows += [(f"{part}, in main memory", gib(s)) for part, s in plan.learner.host.items()]
    if plan.learner.loading:
        rows.append(("main memory while loading", gib(plan.learner.loading)))
    return rows


def _engine_rows(plan: RunPlan) -> list[tuple[str, str]]:
    engine, engines = plan.engine, plan.engines
    rows = [(part, gib(size)) for part, size in engine.parts.items()]
    if engines.gpus and plan.hardware.gpu is None:
        return [*rows, ("keys and values", "what is left of the GPU")]

    verdict = "" if plan.engine_fits else "  too few"
    rows.append(("keys and values", gib(max(0.0, engine.cache)) + verdict))
    if math.isinf(engine.at_once):
        return rows
    mean = min(engine.at_once_mean, engines.concurrency)
    return [
        *rows,
        ("responses at once, of the longest", f"{int(min(engine.at_once, engines.concurrency))}"),
        (f"responses at once, of {plan.response_tokens:,.0f} tokens", f"{int(mean)}"),
    ]


def _turn_lines(plan: RunPlan) -> list[str]:
    """What a shared GPU holds in each turn: the larger of both counts, and not their sum."""
    if plan.at_rest is None:
        return []

    room = plan.hardware.gpu.memory if plan.hardware.gpu else None
    rows = [("a Learner trains", _of(plan.training_total, room, plan.learner_fits))]
    if plan.sampling_total is not None:
        rows += [
            ("an engine samples", _of(plan.sampling_total, room, plan.turns_fit)),
            ("of that, the Learner at rest", gib(plan.at_rest)),
            ("gpu_memory_utilization", _share(plan)),
        ]
    return [*_table(rows, "one GPU for both, in turns (rollout.colocate)"), ""]


def _share(plan: RunPlan) -> str:
    taken = plan.engines.utilization
    if not plan.engines.utilization_is_given:
        return f"{taken:g}, computed"
    return f"{taken:g}, as given; computed: {plan.computed_share:g}"


def _step_rows(plan: RunPlan) -> Iterator[tuple[str, str]]:
    yield (
        "main memory of the fullest machine",
        _of(plan.main_memory, plan.hardware.memory_per_node, plan.main_memory_fits),
    )
    seconds = plan.seconds
    if seconds is None:
        yield "seconds", "not known without the kind of GPU"
        return

    tokens = f"{plan.response_tokens:,.0f} tokens each"
    if plan.accepted < 1:
        tokens += f", {plan.accepted:.0%} of groups kept"
    yield "responses sampled", f"{seconds.responses:,.0f} ({tokens})"
    for name, value, rate in (
        ("sampling", seconds.sampling, seconds.sampled_tokens_per_s),
        ("training", seconds.training, seconds.trained_tokens_per_s),
    ):
        share = value / seconds.total
        yield name, f"{duration(value)}, {share:.0%}; {rate:,.0f} tokens/s"
    ways = ", ".join(f"{duration(s)} by {way}" for way, s in seconds.transfers.items())
    yield "weights to the engines", f"{gib(seconds.transfer_bytes)}; {ways}"


def _table(rows: list[tuple[str, str]], title: str) -> list[str]:
    """Two columns under a title, as rich lays them out."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False)
    table.add_column(min_width=34, max_width=36)
    table.add_column(max_width=42, overflow="fold")
    for row in rows:
        table.add_row(*row)

    text = io.StringIO()
    Console(file=text, width=WIDTH - 1, color_system=None, highlight=False).print(table)
    return [title, *(f" {line.rstrip()}" for line in text.getvalue().splitlines())]


def _of(size: float, room: float | None, fits: bool) -> str:
    if room is None:
        return gib(size)
    return f"{gib(size)} of {gib(room)}: {'fits' if fits else 'DOES NOT FIT'}"


def gib(size: float) -> str:
    """A size in GiB, or in MiB where it is small.

    Args:
        size: Bytes.
    """
    if size < GIB:
        return f"{size / 2**20:.0f} MiB"
    return f"{size / GIB:.1f} GiB" if size < 100 * GIB else f"{size / GIB:,.0f} GiB"


def duration(seconds: float) -> str:
    """Seconds in words of two digits or so.

    Args:
        seconds: A duration.
    """
    if seconds < 0.1:
        return f"{seconds * 1000:.2g} ms"
    if seconds < 600:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36_000 else f"{seconds / 3600:.1f} h"


def _count(number: float) -> str:
    if number < 1e6:
        return f"{number:,.0f}"
    return f"{number / 1e6:.1f} million" if number < 1e9 else f"{number / 1e9:.2f} billion"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"
