"""The progress line in a real Jupyter kernel."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

CELL = """
from rllib_dapo.run.progress import ProgressLine

line = ProgressLine(total=3)
for iteration, accuracy in enumerate((0.25, 0.5, 0.75), start=1):
    result = {"training_iteration": iteration, "time_total_s": 2.0 * iteration}
    result["env_runners"] = {"accuracy": accuracy}
    line.on_trial_result(iteration, [], "trial_00000", result)
line.on_experiment_end([])
"""


@pytest.mark.slow
def test_one_line_is_written_over_and_the_first_and_the_last_stay() -> None:
    cell = nbformat.v4.new_code_cell(CELL)
    NotebookClient(
        nbformat.v4.new_notebook(cells=[cell]), kernel_name="python3", timeout=800
    ).execute()
    text = "".join(output.text for output in cell.outputs)
    assert "\x1b" not in text
    drawn = text.split("\r")[1:]
    assert [line.split()[0] for line in drawn[:3]] == ["1/3", "2/3", "3/3"]
    assert [line.endswith("\n") for line in drawn[:3]] == [True, False, True]
    assert len({len(line.rstrip("\n")) for line in drawn}) == 1, (
        "a shorter line would leave the end of a longer one"
    )
