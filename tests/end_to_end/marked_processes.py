"""The processes of a run that a test has started, by a variable in their environment."""

from __future__ import annotations

import psutil


def marked_processes(variable: str, value: str) -> list[psutil.Process]:
    """Processes that have a variable of the command in their environment: it started them."""
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(variable) == value
            if marked and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # another user's, or gone by now
            continue
    return found
