"""Who worked when: spans of engines from their calls, and what is read back."""

from __future__ import annotations

import json

import pytest

from rllib_dapo.rollout.rollout_result import RolloutResult
from rllib_dapo.tracking.timeline import Span, engine_spans, read_timeline


def call(worker: int, start: float, stop: float) -> RolloutResult:
    return RolloutResult(
        groups=[],
        generation_seconds=stop - start,
        scoring_seconds=0.0,
        worker=worker,
        ended=stop,
    )


def test_calls_that_follow_closely_are_one_span_of_their_engine() -> None:
    results = [
        call(1, 10.0, 10.5),
        call(2, 10.0, 10.25),
        call(1, 10.53125, 11.0),
        call(2, 10.5, 10.75),
        call(2, 10.875, 10.875),  # an engine that computed nothing
        call(1, 12.0, 12.5),
    ]
    assert engine_spans(results) == [
        Span("EnvRunner 1", "generation", 10.0, 11.0),
        Span("EnvRunner 1", "generation", 12.0, 12.5),
        Span("EnvRunner 2", "generation", 10.0, 10.25),
        Span("EnvRunner 2", "generation", 10.5, 10.75),
    ]


def test_what_is_written_is_read_and_anything_else_refused() -> None:
    span = Span("Learner 0", "update", 1.5, 2.0)
    assert read_timeline(json.dumps({"iteration": 7, "spans": [span]})) == (7, [span])
    for text in ("", "[]", "{}", '{"iteration": 1, "spans": [[1, 2]]}', '{"iteration": null}'):
        with pytest.raises(ValueError, match=r"timeline|Expecting|unpack|expected"):
            read_timeline(text)
