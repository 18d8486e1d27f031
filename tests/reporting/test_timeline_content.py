"""What the page draws of a timeline."""

from __future__ import annotations

from rllib_dapo.reporting.timeline_content import timeline_content
from rllib_dapo.tracking.timeline import Span


def test_rows_and_spans_by_hand() -> None:
    timeline = {
        4: [
            Span("driver", "sampling", 100.0, 103.0),  # of which the engines' rows tell
            Span("driver", "update", 103.0, 104.0),
            Span("Learner 0", "update", 103.25, 104.0),
            Span("EnvRunner 10", "generation", 100.5, 103.0),
            Span("EnvRunner 2", "generation", 100.25, 102.0),
        ],
        5: [Span("driver", "weight_sync", 104.0, 104.125)],
    }
    assert timeline_content(timeline) == {
        "rows": ["driver", "EnvRunner 2", "EnvRunner 10", "Learner 0"],
        "spans": [
            [0, "update", 3.0, 1.0],
            [3, "update", 3.25, 0.75],
            [2, "generation", 0.5, 2.5],
            [1, "generation", 0.25, 1.75],
            [0, "weights", 4.0, 0.125],
        ],
        "iterations": [[4, 4.0], [5, 4.125]],
    }


def test_a_trial_without_one_has_none() -> None:
    assert timeline_content({}) is None
    assert timeline_content({1: []}) is None
