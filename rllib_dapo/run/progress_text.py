"""The words of progress: one result in one line that fits the place where it is shown."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rllib_dapo.run.durations import duration

LOG_COLUMNS = 80
_INDENT = "    "
# What is left out first where a line is too narrow, by its first word.
_LEAST_FIRST = ("tokens/s", "accepted", "length", "entropy", "reward", "accuracy")


def progress_line(
    result: Mapping[str, Any],
    *,
    total: int | None,
    name: str = "",
    left: str | None = None,
    columns: int | None = None,
) -> str:
    """One result in one line.

    Args:
        result: What `Algorithm.train` returns.
        total: Number of iterations of the trial, if that is known.
        name: Name of the trial among several.
        left: When all trials will be over, in words, instead of the trial's own times.
        columns: Width that the line must fit into; figures that matter less are left out for it.
            None sets no limit.
    """
    iteration, seconds = result["training_iteration"], result["time_total_s"]
    clock = duration(seconds)
    if left:
        clock = left
    elif left is None and total and iteration < total:
        clock += f", {duration(seconds / iteration * (total - iteration))} left"

    rollout = result.get("env_runners", {})
    learner = result.get("learners", {}).get("default_policy", {})
    is_updated = _is_number(learner.get("gradient_updates"))
    parts = [
        name,
        f"{iteration}/{total}" if total else f"{iteration}",
        clock,
        _figure("accuracy", rollout.get("accuracy"), ".3f"),
        evaluation_text(result),
        "" if is_updated else "no update: no group was informative",
        _figure("reward", rollout.get("episode_return_mean"), "+.2f"),
        _figure("entropy", learner.get("entropy"), ".3f"),
        _figure("length", rollout.get("response_length_mean"), ".1f"),
        _figure("accepted", rollout.get("acceptance_rate"), ".0%"),
        _figure("tokens/s", rollout.get("rollout_tokens_per_second"), ".0f"),
    ]
    return fitted([part for part in parts if part], columns)


def fitted(parts: Sequence[str], columns: int | None) -> str:
    """Parts of a line side by side, without those that matter less where it would be too wide.

    Args:
        parts: Words and figures, in their order.
        columns: Width in characters; None sets no limit.
    """
    kept = list(parts)
    droppable = iter(_LEAST_FIRST)
    while columns is not None and len("  ".join(kept)) > columns:
        least = next(droppable, None)
        if least is None:
            return "  ".join(kept)[:columns]
        kept = [part for part in kept if not part.startswith(f"{least} ")]
    return "  ".join(kept)


def folded(line: str, columns: int = LOG_COLUMNS) -> Iterator[str]:
    """A line that stays, in as many lines as it takes; no word is cut, and so no path.

    Args:
        line: Words.
        columns: Width in characters.
    """
    yield from textwrap.wrap(
        line,
        width=columns,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    ) or [line]


def evaluation_text(result: Mapping[str, Any]) -> str:
    """The evaluation in a result, such as `evaluation avg@8 0.612`.

    Args:
        result: What `Algorithm.train` returns. Every result has the evaluation before training,
            which counts only in the first.

    Returns:
        The text; empty if there was no evaluation.
    """
    places = {"evaluation": ""}
    if result["training_iteration"] <= 1:
        places["evaluation_at_start"] = " at the start"

    for key, when in places.items():
        for name, value in result.get(key, {}).get("env_runners", {}).items():
            if name.startswith("avg@"):
                return f"evaluation {name} {value:.3f}{when}"
    return ""


def short(value: Any) -> str:
    """A value with no more digits than one wants to read."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figure(name: str, value: float | None, form: str) -> str:
    return f"{name} {value:{form}}" if _is_number(value) else ""


def _is_number(value: float | None) -> bool:
    """Whether a value was logged: RLlib reports NaN where an iteration did not log it again."""
    return value is not None and not math.isnan(value)
