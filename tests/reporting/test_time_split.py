from __future__ import annotations

import math

import pandas as pd
import pytest

from rllib_dapo.reporting.time_split import PARTS, time_split


def test_parts_worked_by_hand() -> None:
    frame = pd.DataFrame(
        {
            "time_this_iter_s": [10.0, 20.0],
            "env_runners/generation_seconds": [6.0, 12.0],  # of two EnvRunners
            "env_runners/scoring_seconds": [2.0, 4.0],
            "seconds/sampling": [4.0, 8.0],
            "seconds/update": [3.0, math.nan],  # no update in the second iteration
            "seconds/weight_sync": [1.0, 0.01],
            "seconds/evaluation": [0.0, 2.0],
            "timers/learner_update_timer": [99.0, 99.0],
        }
    )
    split = time_split(frame)
    assert split == pytest.approx(
        {
            "generation": 9.0,
            "scoring": 3.0,
            "update": 3.0,
            "weights": 1.01,
            "evaluation": 2.0,
            "other": 11.99,
        }
    )
    assert sum(split.values()) == pytest.approx(30.0)
    assert tuple(split) == PARTS


@pytest.mark.parametrize(
    "columns",
    [
        {"training_iteration": []},
        # As results of earlier versions are.
        {"time_this_iter_s": [9.0, 8.0], "timers/learner_update_timer": [3.0, 3.01]},
    ],
)
def test_results_without_seconds_of_their_own_have_no_split(columns: dict[str, list]) -> None:
    assert time_split(pd.DataFrame(columns)) == {}
