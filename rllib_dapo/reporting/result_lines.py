"""The lines of a trial's `result.json`, of which the last one may still be being written."""

from __future__ import annotations

import json
from typing import Any

from pyarrow.fs import FileSystem, FileType


def whole_results(filesystem: FileSystem, path: str) -> list[dict[str, Any]]:
    """Reads the results that are whole.

    Args:
        filesystem: File system of the run.
        path: Path of the file in it.

    Returns:
        Results in order, up to the first line that is not JSON; none if there is no file.
    """
    if filesystem.get_file_info(path).type != FileType.File:
        return []
    with filesystem.open_input_stream(path) as file:
        lines = file.read().decode("utf-8", errors="replace").splitlines()

    results: list[dict[str, Any]] = []
    for line in lines:
        try:
            result = json.loads(line)
        except ValueError:
            break
        if not isinstance(result, dict):
            break
        results.append(result)
    return results
