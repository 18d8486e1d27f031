"""What a reader of a run's curves should know: iterations that trained on less, idle settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from rllib_dapo.reporting.report_panels import ENV, ITERATION, LEARNER
from rllib_dapo.reporting.stored_run import StoredTrial

_MOST_NAMES = 4
_BOUNDS = {
    "epsilon_low": f"{LEARNER}/clip_fraction_low",
    "epsilon_high": f"{LEARNER}/clip_fraction_high",
}


class PartialBatches(NamedTuple):
    """The iterations of a trial that trained on fewer groups than a batch has.

    Attributes:
        iterations: Numbers of these iterations.
        fewest: Groups of the smallest batch.
        wanted: Groups of a whole batch.
    """

    iterations: list[int]
    fewest: int
    wanted: int


def run_notes(trials: Sequence[StoredTrial]) -> list[dict[str, str]]:
    """Sentences for the top of the page.

    Args:
        trials: Trials of one or more runs.

    Returns:
        The `kind` and the `text` of each thing that was found (`partial`, `idle`, `single update`);
        none where there is nothing to say.
    """
    found = {
        "partial": _partial_notes(trials),
        "idle": [note for bound in _BOUNDS if (note := _idle_note(trials, bound))],
        "single update": _single_update_note(trials),
    }
    return [{"kind": kind, "text": text} for kind, texts in found.items() for text in texts]


def partial_batches(trial: StoredTrial) -> PartialBatches | None:
    """Finds the iterations whose batch stayed below `training.prompts_per_step`.

    Args:
        trial: The trial.

    Returns:
        These iterations; None if there were none, or if the setting that fills batches otherwise
        is on.
    """
    wanted, column = trial.config.get("prompts_per_step"), f"{ENV}/groups_accepted"
    is_whole = trial.config.get("on_shortfall") in ("keep_uninformative", "reuse")
    if not isinstance(wanted, int) or is_whole or column not in trial.frame:
        return None
    groups = trial.frame.set_index(ITERATION)[column].dropna()
    fewer = groups[groups < wanted]
    if fewer.empty:
        return None
    return PartialBatches([int(i) for i in fewer.index], int(fewer.min()), wanted)


def _partial_notes(trials: Sequence[StoredTrial]) -> list[str]:
    found = [(trial, batches) for trial in trials if (batches := partial_batches(trial))]
    if not found:
        return []
    trial, most = max(found, key=lambda pair: len(pair[1].iterations))
    where = f" of {len(found)} trials ({_names([t for t, _ in found])})" if len(trials) > 1 else ""
    total = sum(len(batches.iterations) for _, batches in found)
    iterations = f"{total} iterations" if total > 1 else "One iteration"
    return [
        f"{iterations}{where} trained on a partial batch, because dynamic sampling had used up its "
        f"rounds: most often {trial.name}, in {len(most.iterations)} of its {len(trial.frame)} "
        f"iterations ({_ranges(most.iterations)}), with {most.fewest} of {most.wanted} groups in "
        "the smallest. Such an update is noisier, and counts as much as any."
    ]


def _idle_note(trials: Sequence[StoredTrial], bound: str) -> str | None:
    measured = [t for t in trials if _BOUNDS[bound] in t.frame]
    idle = [t for t in measured if _is_zero(t.frame[_BOUNDS[bound]])]
    if not idle:
        return None
    values = {str(trial.config.get(bound)) for trial in trials if trial.config}
    where = ""
    if len(trials) > 1:
        share = (
            "all trials" if len(idle) == len(measured) else f"{len(idle)} of {len(measured)} trials"
        )
        named = "" if len(idle) == len(measured) else f" ({_names(idle)})"
        where = f" in {share}{named}"
    note = f"{bound} was idle{where}: it clipped no token in any iteration."
    if len(values) > 1:
        note += " Differences between these trials do not come from its value."
    return note


def _single_update_note(trials: Sequence[StoredTrial]) -> list[str]:
    """With one update per iteration the policy is still the old one when the ratio is taken."""
    column = f"{LEARNER}/gradient_updates"
    measured = [t for t in trials if column in t.frame and t.frame[column].notna().any()]
    single = [
        t for t in measured if t.frame[column].max() <= 1 and not t.config.get("max_staleness")
    ]
    if not single:
        return []
    where = f" of {len(single)} trials ({_names(single)})" if len(trials) > 1 else ""
    return [
        f"Each iteration{where} is one gradient update, so the importance ratio is 1 but for "
        "rounding, and neither clip bound can have an effect."
    ]


def _is_zero(values: pd.Series) -> bool:
    known = values.dropna()
    return len(known) > 0 and bool((known == 0).all())


def _names(trials: Sequence[StoredTrial]) -> str:
    names = [trial.name for trial in trials]
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in short: 3 to 5, 9. The first few stretches stand for all."""
    stretches: list[list[int]] = []
    for number in numbers:
        if stretches and number == stretches[-1][1] + 1:
            stretches[-1][1] = number
        else:
            stretches.append([number, number])
    texts = [str(a) if a == b else f"{a} to {b}" for a, b in stretches[:_MOST_NAMES]]
    return ", ".join(texts) + (" and others" if len(stretches) > _MOST_NAMES else "")
