"""Why a run or its trials failed: the line that says it, and where to read the rest."""

from __future__ import annotations

import traceback
from pathlib import Path

from ray import tune

from rllib_dapo.run.error_cause import cause_line, points_elsewhere
from rllib_dapo.run.run_folder import worker_log_path
from rllib_dapo.run.tuner import RunResult

_FILE_NAME = "error.txt"


def failure_lines(outcome: RunResult) -> list[str]:
    """Why trials failed, and where to read more about it; empty if none did.

    The cause comes last, where whoever comes back to a terminal looks first.
    """
    failed = [result for result in outcome.grid if result.error is not None]
    if not failed:
        return []

    lines = []
    if outcome.exceptions:
        lines.append("the first errors that any process printed:")
        lines += [f"  {line}" for line in outcome.exceptions]
        lines.append(f"  all of them: {worker_log_path(outcome.folder)}")

    if len(failed) > 1:
        lines.append(f"{len(failed)} of {len(outcome.grid)} trials failed:")
    for result in sorted(failed, key=trial_name):
        lines.append(f"the whole error of {trial_name(result)}: {result.path}/error.txt")
        lines.append(f"{trial_name(result)} failed: {_reason(result, outcome.exceptions)}")
    return lines


def keep_error(error: Exception, folder: str) -> list[str]:
    """Writes an error of this process into a run's folder.

    Args:
        error: What Ray or Tune raised.
        folder: Folder or URI of the run.

    Returns:
        The lines that tell of it, the cause in the last one.
    """
    path = worker_log_path(folder).with_name(_FILE_NAME) if "://" in folder else _local(folder)
    text = "".join(traceback.format_exception(error))
    cause = f"the run failed: {cause_line(error)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        return [*text.splitlines(), cause]  # where nothing can be written, all of it is printed
    return [f"the whole error: {path}", cause]


def trial_name(result: tune.Result) -> str:
    """The name of a trial, which is that of its folder."""
    return result.path.rpartition("/")[2]


def _reason(result: tune.Result, printed: tuple[str, ...]) -> str:
    """The cause of one failure; what a process printed where the error only points there."""
    assert result.error is not None
    told = cause_line(result.error)
    better = [line for line in printed if not points_elsewhere(line)]
    return better[0] if points_elsewhere(told) and better else told


def _local(folder: str) -> Path:
    return Path(folder, _FILE_NAME)
