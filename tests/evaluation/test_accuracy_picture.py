"""The picture of accuracy against samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
from matplotlib.image import imread

from rllib_dapo.evaluation.accuracy_picture import accuracy_picture
from rllib_dapo.evaluation.data_set_metrics import DataSetMetrics, data_set_metrics

MakeRows = Callable[..., pandas.DataFrame]


@pytest.mark.parametrize("panels", [1, 2, 4])
def test_every_data_set_has_a_panel(tmp_path: Path, make_rows: MakeRows, panels: int) -> None:
    responses = pandas.concat(
        [make_rows(0, ["1", "1", "2", "3"]), make_rows(1, ["2", "1", "2", "4"])]
    )
    found = {
        f"set{i}": data_set_metrics(responses, num_samples=4, num_problems=2, seed=0)
        for i in range(panels)
    }
    picture = imread(accuracy_picture(found, tmp_path / "pictures" / "accuracy.png"))
    assert picture.std() > 0.05  # not blank
    one = imread(accuracy_picture({"set0": found["set0"]}, tmp_path / "one.png"))
    columns, rows = min(3, panels), -(-panels // 3)
    assert picture.shape[1] == one.shape[1] * columns
    assert picture.shape[0] >= one.shape[0] * rows - 110


def test_what_cannot_be_drawn_is_said_in_its_panel(tmp_path: Path, make_rows: MakeRows) -> None:
    graded: DataSetMetrics = data_set_metrics(
        make_rows(0, ["a"], graded=[0.5]), num_samples=1, num_problems=1, seed=0
    )
    assert imread(accuracy_picture({"graded": graded}, tmp_path / "graded.png")).std() > 0
