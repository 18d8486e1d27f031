"""Who worked when: spans of engines, Learners and the driver, in a trial's folder `timeline`.

Each iteration has one file, and only the last ones are kept: they are for looking at, and a long
run would leave thousands. Times are those of the machine on which something happened.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.ray_internals import trial_storage
from rllib_dapo.rollout.rollout_result import RolloutResult
from rllib_dapo.tracking.trial_folder import trial_folder

if TYPE_CHECKING:
    from rllib_dapo.algorithm import DAPO

TIMELINE_FOLDER, TIMELINE_SUFFIX = "timeline", ".json"
KEPT = 8  # iterations
# Calls of an EnvRunner that follow one another this closely are one span.
_GAP_SECONDS = 0.05

DRIVER = "driver"


class Span(NamedTuple):
    """Something that somebody did.

    Attributes:
        row: Who, such as `EnvRunner 1`, `Learner 0` or `driver`.
        what: What: `generation`, or a part of `IterationClock`.
        start: Seconds since the epoch.
        stop: The same.
    """

    row: str
    what: str
    start: float
    stop: float


def engine_spans(results: Iterable[RolloutResult]) -> list[Span]:
    """When engines computed, by what EnvRunners brought.

    An engine's time in a call is taken to be the end of the call.

    Args:
        results: Results of EnvRunners, each EnvRunner's in the order of time.
    """
    spans: dict[str, list[Span]] = {}
    for result in results:
        row = f"EnvRunner {result.worker}"
        of_row = spans.setdefault(row, [])
        start = result.ended - result.generation_seconds
        if of_row and start - of_row[-1].stop <= _GAP_SECONDS:
            of_row[-1] = of_row[-1]._replace(stop=max(result.ended, of_row[-1].stop))
        elif result.generation_seconds:
            of_row.append(Span(row, "generation", start, result.ended))
    return [span for of_row in spans.values() for span in of_row]


def write_timeline(
    algorithm: DAPO, results: Iterable[RolloutResult], result: Mapping[str, Any]
) -> None:
    """Writes the spans of an iteration, in the place of those before the last few.

    Args:
        algorithm: Algorithm at the end of an iteration.
        results: What EnvRunners have brought.
        result: The iteration's result.
    """
    spans = [Span(DRIVER, *span) for span in algorithm.iteration_spans]
    if any(span.what == "update" for span in spans):
        updates = ask_learners(algorithm.learner_group, lambda learner: learner.update_span)
        spans += [
            Span(f"Learner {rank}", "update", *span) for rank, span in enumerate(updates) if span
        ]
    spans += engine_spans(results)

    iteration = int(result["training_iteration"])
    folder = trial_folder(trial_storage(algorithm), algorithm.logdir, TIMELINE_FOLDER)
    folder.filesystem.create_dir(folder.path, recursive=True)
    path = f"{folder.path}/{iteration % KEPT}{TIMELINE_SUFFIX}"
    with folder.filesystem.open_output_stream(path) as file:
        file.write(json.dumps({"iteration": iteration, "spans": spans}).encode())


def read_timeline(text: str) -> tuple[int, list[Span]]:
    """Reads what `write_timeline` wrote.

    Args:
        text: Text of a file.

    Returns:
        The iteration, and its spans.

    Raises:
        ValueError: If it is something else.
    """
    try:
        data = json.loads(text)
        spans = [Span(str(r), str(w), float(a), float(b)) for r, w, a, b in data["spans"]]
        return int(data["iteration"]), spans
    except (TypeError, KeyError) as error:
        raise ValueError("no timeline") from error
