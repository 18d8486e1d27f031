"""avg@k, pass@k and maj@k by hand, and against all subsets."""

from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_dapo.metrics.estimators import (
    MAX_SAMPLES,
    Votes,
    average_at,
    bootstrap,
    majority_at,
    pass_at,
    sample_counts,
    tally,
)


def _in_subset(predictions: Sequence[str], right: str) -> float:
    """maj of one subset, by counting: the right answer's share among those that tie."""
    counts = Counter(prediction for prediction in predictions if prediction)
    if not counts:
        return 0.0
    first = [answer for answer, count in counts.items() if count == max(counts.values())]
    return (right in first) / len(first)


RESPONSES = st.lists(st.sampled_from(["", "1", "2", "3", "4"]), min_size=1, max_size=9)


@given(RESPONSES)
def test_all_three_are_the_mean_over_all_subsets(predictions: list[str]) -> None:
    verdicts = [prediction == "1" for prediction in predictions]
    n, correct = len(predictions), sum(verdicts)
    for k in range(1, n + 1):
        subsets = list(itertools.combinations(range(n), k))
        average = np.mean([np.mean([verdicts[i] for i in subset]) for subset in subsets])
        passed = np.mean([any(verdicts[i] for i in subset) for subset in subsets])
        majority = np.mean(
            [_in_subset([predictions[i] for i in subset], "1") for subset in subsets]
        )
        assert average_at(correct, n) == pytest.approx(average, abs=1e-12)
        assert pass_at(correct, n, k) == pytest.approx(passed, abs=1e-12)
        assert majority_at(tally(predictions, verdicts), n, k) == pytest.approx(majority, abs=1e-12)


def test_32_responses_agree_with_drawn_subsets() -> None:
    rng = random.Random(0)
    predictions = ["7"] * 9 + ["3"] * 9 + ["5"] * 6 + [f"x{i}" for i in range(4)] + [""] * 4
    verdicts = [prediction == "7" for prediction in predictions]
    votes = tally(predictions, verdicts)
    for k in (2, 4, 8, 16):
        drawn = [rng.sample(predictions, k) for _ in range(20_000)]
        # the standard error of 20,000 draws of a number between 0 and 1 is at most 0.0036
        assert majority_at(votes, 32, k) == pytest.approx(
            np.mean([_in_subset(s, "7") for s in drawn]), abs=0.015
        )
        assert pass_at(9, 32, k) == pytest.approx(np.mean(["7" in s for s in drawn]), abs=0.015)


def test_pass_at_k_by_hand() -> None:
    # 2 of 5 are right: of the 10 pairs 3 hold none of them, of the 10 triples 1
    assert [pass_at(2, 5, k) for k in (1, 2, 3, 4, 5)] == pytest.approx([0.4, 0.7, 0.9, 1, 1])
    assert pass_at(0, 5, 5) == 0
    assert pass_at(5, 5, 1) == 1


def test_majority_by_hand() -> None:
    # a a b, a is right. Pairs: aa wins, ab and ab tie. All three: a wins.
    votes = tally(["a", "a", "b"], [True, True, False])
    assert [majority_at(votes, 3, k) for k in (1, 2, 3)] == pytest.approx(
        [2 / 3, (1 + 0.5 + 0.5) / 3, 1]
    )
    # with three wrong ones that agree, more samples make it worse
    votes = tally(["a", "a", "b", "b", "b"], [True, True, False, False, False])
    values = [majority_at(votes, 5, k) for k in (1, 2, 3, 4, 5)]
    assert values == pytest.approx([0.4, 0.4, 0.3, 0.3, 0.0])


def test_a_tie_counts_in_proportion_whatever_the_order() -> None:
    for order in itertools.permutations([("a", True), ("b", False), ("c", False)]):
        predictions, verdicts = zip(*order, strict=True)
        assert majority_at(tally(predictions, verdicts), 3, 3) == pytest.approx(1 / 3)


def test_who_gives_no_answer_does_not_vote() -> None:
    votes = tally(["", "", "", "a"], [False, False, False, True])
    assert votes == (Votes(1, 1.0),)
    # it takes the one who votes to be among the k
    assert [majority_at(votes, 4, k) for k in (1, 2, 3, 4)] == pytest.approx(
        [1 / 4, 2 / 4, 3 / 4, 1]
    )
    assert majority_at(tally(["", ""], [False, False]), 2, 2) == 0


def test_a_missing_verdict_votes_and_is_never_right_by_itself() -> None:
    # one judge hung on an answer that three others were given a verdict on: it is the same answer
    assert tally(["a", "a", "b"], [True, None, False]) == (Votes(2, 1.0), Votes(1, 0.0))
    assert tally(["a", "a"], [None, None]) == (Votes(2, 0.0),)
    assert majority_at(tally(["a", "a", "b"], [None, None, True]), 3, 3) == 0


def test_verdicts_that_disagree_on_one_answer_count_in_proportion() -> None:
    assert tally(["a", "a", "a", "a"], [True, False, False, None]) == (Votes(4, 1 / 3),)


def test_large_groups_are_within_the_range_of_floats() -> None:
    votes = (Votes(MAX_SAMPLES // 2, 1.0), Votes(MAX_SAMPLES // 2, 0.0))
    for k in (1, 2, 511, 1023, 1024):
        assert majority_at(votes, MAX_SAMPLES, k) == pytest.approx(0.5)
    exact = 1 - Fraction(math.comb(1000, 512), math.comb(1024, 512))
    assert pass_at(24, 1024, 512) == pytest.approx(float(exact))


@pytest.mark.parametrize("k", [0, 4])
def test_more_than_all_responses_cannot_be_taken(k: int) -> None:
    with pytest.raises(
        ValueError, match=f"k={k} must lie between 1 and the number of responses, 3"
    ):
        pass_at(1, 3, k)
    with pytest.raises(ValueError, match=f"k={k} must lie between 1"):
        majority_at((Votes(3, 1.0),), 3, k)


def test_curves_are_drawn_at_powers_of_two_and_at_the_end() -> None:
    assert sample_counts(1) == (1,)
    assert sample_counts(8) == (1, 2, 4, 8)
    assert sample_counts(12) == (1, 2, 4, 8, 12)


def test_an_interval_depends_on_the_seed_alone_and_holds_the_mean() -> None:
    values = np.random.default_rng(1).random((40, 3))
    low, high = bootstrap(values, seed=0)
    assert (low < values.mean(axis=0)).all()
    assert (values.mean(axis=0) < high).all()
    assert np.array_equal(bootstrap(values, seed=0), [low, high])
    assert not np.array_equal(bootstrap(values, seed=1), [low, high])


def test_an_interval_by_theory() -> None:
    # 100 problems, half of them solved: the mean's standard error is 0.05
    values = np.repeat([[0.0], [1.0]], 50, axis=0)
    low, high = bootstrap(values, seed=0, resamples=4000)
    assert low[0] == pytest.approx(0.5 - 1.96 * 0.05, abs=0.015)
    assert high[0] == pytest.approx(0.5 + 1.96 * 0.05, abs=0.015)


def test_one_problem_leaves_nothing_to_draw() -> None:
    assert np.array_equal(bootstrap(np.array([[0.25, 1.0]]), seed=0), [[0.25, 1.0]] * 2)


def test_the_estimators_need_neither_torch_nor_ray() -> None:
    source = "import rllib_dapo.metrics.estimators as e; print(open(e.__file__).read())"
    text = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    ).stdout
    imported = [
        line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))
    ]

    assert set(imported) <= {
        "__future__",
        "collections",
        "collections.abc",
        "functools",
        "math",
        "typing",
        "numpy",
    }
