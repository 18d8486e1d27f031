"""Which records the majority of samples supports; worked numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_dapo.warm_start.majority import Vote, decide

RIGHT, NONE = Vote(is_correct=True, prediction="4"), Vote(is_correct=False, prediction="")
MISSING = Vote(is_correct=None, prediction="4")


def wrong(prediction: str = "5") -> Vote:
    return Vote(is_correct=False, prediction=prediction)


@pytest.mark.parametrize(
    ("votes", "threshold", "decision"),
    [
        ([RIGHT] * 3 + [wrong()], 0.5, "kept"),
        ([RIGHT] * 2 + [wrong()] * 2, 0.5, "outvoted"),
        ([RIGHT] * 2 + [wrong("5"), wrong("6")], 0.5, "kept"),
        ([RIGHT] * 2 + [wrong("5"), wrong("6")], 0.75, "too little agreement"),
        ([RIGHT, wrong("5"), wrong("6"), wrong("7")], 0.25, "outvoted"),
        ([RIGHT] + [NONE] * 3, 0.25, "kept"),
        ([RIGHT] + [NONE] * 3, 0.5, "too little agreement"),
        ([NONE] * 4, 0.5, "no answer"),
        ([wrong()] * 4, 0.5, "outvoted"),
        ([RIGHT] * 3 + [MISSING], 0.5, "kept"),
        ([RIGHT] + [MISSING] * 3, 0.5, "no verdict"),
        ([RIGHT, wrong(), MISSING, MISSING], 0.5, "no verdict"),
        ([wrong()] * 3 + [MISSING], 0.5, "outvoted"),
        ([MISSING] * 4, 0.5, "no verdict"),
        ([], 0.5, "prompt too long"),
    ],
)
def test_a_record_is_kept_if_the_majority_supports_it(
    votes: list[Vote], threshold: float, decision: str
) -> None:
    assert decide(votes, num_samples=4, threshold=threshold) == decision


@given(
    votes=st.lists(st.sampled_from([RIGHT, NONE, wrong("5"), wrong("6")]), min_size=8, max_size=8),
    lost=st.sets(st.integers(0, 7)),
    threshold=st.sampled_from([0.25, 0.5, 0.75, 1.0]),
)
def test_a_missing_verdict_never_turns_a_decision(
    votes: list[Vote], lost: set[int], threshold: float
) -> None:
    whole = decide(votes, num_samples=8, threshold=threshold)
    known = [MISSING if i in lost else vote for i, vote in enumerate(votes)]

    found = decide(known, num_samples=8, threshold=threshold)

    assert found == "no verdict" or (found == "kept") == (whole == "kept")
