from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rllib_dapo.reporting.time_split import PARTS, time_split, timer_seconds


def _reported(seconds: list[float | None]) -> pd.DataFrame:
    """What RLlib reports of a timer that measured this, by iteration; None: it did not run."""
    logger = MetricsLogger(root=True)
    rows = []
    for value in seconds:
        if value is not None:
            logger.log_value(("timers", "t"), value, reduce="ema")
        rows.append(logger.compile().get("timers", {}).get("t", math.nan))
    return pd.DataFrame({"timers/t": rows})


# In milliseconds: an average that stays the same to the last digits is taken for a timer at rest.
@given(st.lists(st.integers(10, 100_000), min_size=1, max_size=20, unique=True))
def test_a_timer_is_read_back_from_its_moving_average(milliseconds: list[int]) -> None:
    seconds = [value / 1000 for value in milliseconds]
    assert timer_seconds(_reported(list(seconds)), "timers/t").tolist() == pytest.approx(
        seconds, rel=1e-6, abs=1e-6
    )


def test_an_iteration_in_which_a_timer_did_not_run_took_no_time() -> None:
    assert timer_seconds(_reported([None, 2.0, None, 3.0]), "timers/t").tolist() == pytest.approx(
        [0, 2.0, 0, 3.0]
    )


def test_a_timer_that_was_never_there_took_no_time() -> None:
    assert timer_seconds(pd.DataFrame({"x": [1, 2]}), "timers/t").tolist() == [0, 0]


def test_parts_worked_by_hand() -> None:
    frame = pd.DataFrame(
        {
            "time_this_iter_s": [10.0, 20.0],
            "env_runners/num_episodes": [100, 100],
            "env_runners/response_length_mean": [10.0, 10.0],
            "env_runners/rollout_tokens_per_second": [250.0, 125.0],  # 4 s, 8 s
            "env_runners/generation_seconds": [6.0, 12.0],  # of two EnvRunners
            "env_runners/scoring_seconds": [2.0, 4.0],
            "timers/learner_update_timer": [3.0, 3.01],  # 3 s, 4 s
            "timers/synch_weights": [1.0, 1.0001],  # 1 s, 1.01 s
            "timers/evaluation_iteration": [math.nan, 2.0],
            "evaluation/env_runners/avg@4": [0.5, math.nan],
        }
    )
    split = time_split(frame)
    assert split == pytest.approx(
        {
            "generation": 9.0,
            "scoring": 3.0,
            "update": 7.0,
            "weights": 2.01,
            "evaluation": 2.0,
            "other": 6.99,
        }
    )
    assert sum(split.values()) == pytest.approx(30.0)
    assert tuple(split) == PARTS


def test_a_trial_without_a_result_took_no_time() -> None:
    assert set(time_split(pd.DataFrame({"training_iteration": []})).values()) == {0.0}
