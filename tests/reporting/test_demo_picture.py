from __future__ import annotations

import math
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
from matplotlib import _pylab_helpers

from rllib_dapo.reporting.demo_picture import curves_picture
from rllib_dapo.reporting.report_panels import PICTURE_PANELS


@pytest.fixture
def frame() -> pd.DataFrame:
    """A `metrics_dataframe` of four iterations: one with an evaluation, one without an update."""
    columns = [curve.column for panel in PICTURE_PANELS for curve in panel.curves]
    rows = [{"training_iteration": n, **dict.fromkeys(columns, 0.1 * n)} for n in range(1, 5)]
    rows[2]["learners/default_policy/entropy"] = math.nan
    return pd.DataFrame(rows).assign(
        **{
            "evaluation/env_runners/avg@8": [math.nan, math.nan, math.nan, 0.7],
            "evaluation_at_start/env_runners/avg@8": 0.3,
        }
    )


def _share_of_ink(path: Path) -> float:
    pixels = matplotlib.image.imread(path)
    return float((pixels[..., :3].min(axis=-1) < 0.7).mean())


def test_a_picture_is_drawn_without_pyplot(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = curves_picture(frame, tmp_path / "new" / "curves.png")
    height, width = matplotlib.image.imread(path).shape[:2]
    assert width > 1000
    assert height > 500
    assert not _pylab_helpers.Gcf.figs, "pyplot keeps its figures for the whole process"


def test_curves_make_the_difference_to_an_empty_picture(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    full = curves_picture(frame, tmp_path / "full.png")
    empty = curves_picture(frame[["training_iteration"]], tmp_path / "empty.png")
    assert _share_of_ink(full) > 1.1 * _share_of_ink(empty)


def test_evaluations_are_drawn_too(frame: pd.DataFrame, tmp_path: Path) -> None:
    with_points = curves_picture(frame, tmp_path / "with.png")
    without = frame.drop(columns=[column for column in frame if column.startswith("evaluation")])
    assert _share_of_ink(with_points) > _share_of_ink(
        curves_picture(without, tmp_path / "without.png")
    )


def test_a_run_of_one_iteration_can_be_drawn(frame: pd.DataFrame, tmp_path: Path) -> None:
    assert curves_picture(frame.head(1), tmp_path / "one.png").is_file()
