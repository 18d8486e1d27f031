"""Responses as rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas
import pytest


def _make_rows(
    seed: int,
    predictions: Sequence[str],
    *,
    right: str = "1",
    missing: Sequence[int] = (),
    graded: Sequence[float] | None = None,
    cut_off: Sequence[int] = (),
) -> pandas.DataFrame:
    """The responses to one problem.

    A response is correct if its prediction is `right`. Those at the indices in `missing` have no
    verdict.
    """
    rows = []
    for i, prediction in enumerate(predictions):
        verdict = None if i in missing or graded is not None else prediction == right
        reward = graded[i] if graded is not None else 1.0 if prediction == right else -1.0
        rows.append(
            {
                "problem_id": f"problem {seed}",
                "seed": seed,
                "sample": i,
                "prompt": f"{seed}?",
                "answer": right,
                "response": f"Answer: {prediction}",
                "prediction": prediction,
                "reward": None if i in missing else reward,
                "is_correct": verdict,
                "missing_reason": "timeout: took over 5 s" if i in missing else None,
                "prompt_tokens": 2,
                "tokens": 4,
                "finish_reason": "length" if i in cut_off else "stop",
                "turns": 1,
            }
        )
    return pandas.DataFrame(rows).astype({"is_correct": object, "reward": float})


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., pandas.DataFrame]:
    return _make_rows
