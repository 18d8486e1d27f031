from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from rllib_dapo.reporting.stored_run import StoredTrial
from rllib_dapo.reporting.trial_settings import settings_table


def _trial(config: dict[str, Any], frame: dict[str, list[float]]) -> StoredTrial:
    return StoredTrial(
        trial_id="1",
        name="trial_1",
        folder="",
        status="finished",
        error="",
        config=config,
        frame=pd.DataFrame(frame),
        checkpoints=(),
        samples=(),
    )


@pytest.mark.parametrize(
    ("config", "frame", "shown"),
    [
        ({"overlong_buffer_tokens": None}, [20.0, 20.0], "None, which is 20"),
        ({"overlong_buffer_tokens": 4}, [4.0, 4.0], "4"),
        ({"overlong_buffer_tokens": None}, [], "None"),
    ],
)
def test_a_width_that_is_not_set_is_shown_as_results_have_it(
    config: dict[str, Any], frame: list[float], shown: str
) -> None:
    trial = _trial(config, {"env_runners/overlong_buffer_tokens": frame} if frame else {})
    (row,) = settings_table([trial], {"overlong_buffer_tokens": None})
    assert row["value"] == shown
    assert row["is_changed"] is (shown == "4")
