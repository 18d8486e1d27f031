"""Accuracy as a function of the number of samples: avg@k, pass@k, maj@k, and their intervals.

All are exact expectations over the subsets of `k` of a problem's `n` responses: nothing is drawn,
and the value at `k = n` is what the responses themselves give. Only the intervals draw, from a
seed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from math import comb, fsum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SAMPLES = 1024  # beyond, the number of subsets overflows a float


class Votes(NamedTuple):
    """The votes for one answer to a problem.

    Attributes:
        times: Number of responses that gave the answer.
        value: 1 if it is right, 0 if it is wrong, between them if verdicts disagree.
    """

    times: int
    value: float


def sample_counts(num_samples: int) -> tuple[int, ...]:
    """The numbers of samples at which a curve is drawn: 1, 2, 4, ... and `num_samples` itself."""
    powers = [1 << i for i in range(num_samples.bit_length()) if 1 << i < num_samples]
    return (*powers, num_samples)


def average_at(num_correct: int, num_samples: int) -> float:
    """avg@k of one problem: the share of correct responses, which does not depend on k."""
    return num_correct / num_samples


def pass_at(num_correct: int, num_samples: int, k: int) -> float:
    """pass@k of one problem, without bias: `1 - C(n - c, k) / C(n, k)` (arXiv 2107.03374, Eq. 1).

    The probability that at least one of `k` responses, taken from the `n` without replacement, is
    correct.

    Args:
        num_correct: `c`, the number of correct responses.
        num_samples: `n`, the number of responses.
        k: Number of responses taken, at most `n`.

    Raises:
        ValueError: If `k` is not between 1 and `n`.
    """
    _check_k(k, num_samples)
    return 1.0 - comb(num_samples - num_correct, k) / comb(num_samples, k)


def tally(predictions: Sequence[str], verdicts: Sequence[bool | None]) -> tuple[Votes, ...]:
    """Counts a problem's answers.

    A response without a prediction casts no vote. One whose verdict is missing votes for its
    prediction all the same; the value of an answer is the mean of the verdicts that there are on
    it, and 0 if there are none.

    Args:
        predictions: Answer extracted from each response; equal answers are equal texts, and the
            empty text is no answer.
        verdicts: Whether each response is correct; None where that is missing.

    Returns:
        One entry for each answer, in an order that depends on counts and values alone.
    """
    found: dict[str, list[bool | None]] = defaultdict(list)
    for prediction, verdict in zip(predictions, verdicts, strict=True):
        if prediction:
            found[prediction].append(verdict)
    votes = []
    for of_answer in found.values():
        known = [verdict for verdict in of_answer if verdict is not None]
        votes.append(Votes(len(of_answer), sum(known) / len(known) if known else 0.0))
    return tuple(sorted(votes, reverse=True))


def majority_at(votes: Sequence[Votes], num_samples: int, k: int) -> float:
    """maj@k of one problem: the probability that the majority of `k` responses is right.

    The expectation over all subsets of `k` of the `n` responses, and over the answers that tie for
    most votes in a subset, each equally probable. A subset in which nobody votes is wrong.

    Args:
        votes: The result of `tally`.
        num_samples: `n`, the number of responses, those that cast no vote included.
        k: Number of responses taken, at most `n`.

    Raises:
        ValueError: If `k` is not between 1 and `n`.
    """
    _check_k(k, num_samples)
    return float(_majorities(tuple(sorted(votes, reverse=True)), num_samples)[k - 1])


def bootstrap(
    values: NDArray[np.float64], *, seed: int, resamples: int = 2000, level: float = 0.95
) -> NDArray[np.float64]:
    """Percentile intervals of means over problems, by drawing the problems anew with replacement.

    Args:
        values: `[P, M]`, one row for each problem, one column for each figure; all columns share
            the draws.
        seed: Seed of the draws.
        resamples: Number of times that all problems are drawn.
        level: Share of the resampled means within the interval.

    Returns:
        `[2, M]`: lower and upper ends. With one problem both are its value, since there is nothing
        to draw.
    """
    rng = np.random.default_rng(seed)
    problems = len(values)
    means = np.stack(
        [values[rng.integers(problems, size=problems)].mean(axis=0) for _ in range(resamples)]
    )
    outside = (1 - level) / 2
    return np.quantile(means, [outside, 1 - outside], axis=0)


def mean(values: Sequence[float]) -> float:
    """The mean, rounded once."""
    return fsum(values) / len(values)


# Many problems of a data set have the same counts.
@lru_cache(maxsize=4096)
def _majorities(votes: tuple[Votes, ...], num_samples: int) -> NDArray[np.float64]:
    """`[n]`: maj@k for k = 1, ..., n.

    For an answer to win with `v` votes, no other may have more than `v`; if `t` others have exactly
    `v`, it is the one chosen with probability `1 / (t + 1)`. Subsets are counted by their number of
    votes for other answers and by `t`; responses that cast no vote make up the rest.
    """
    silent = num_samples - sum(vote.times for vote in votes)
    subsets = np.array([float(comb(num_samples, k)) for k in range(num_samples + 1)])

    result = np.zeros(num_samples + 1)
    for i, (count, value) in enumerate(votes):
        if not value:
            continue
        others = [vote.times for vote in (*votes[:i], *votes[i + 1 :])]
        for winning in range(1, count + 1):
            ways = np.convolve(
                _ways(others, winning, num_samples),
                [float(comb(silent, s)) for s in range(silent + 1)],
            )
            chances = ways[: num_samples - winning + 1] / subsets[winning:]
            result[winning:] += value * comb(count, winning) * chances

    result.flags.writeable = False  # shared by all who ask
    return result[1:]


def _ways(others: Sequence[int], most: int, num_samples: int) -> NDArray[np.float64]:
    """`[n + 1]`: the number of ways to take so many votes for other answers, divided among ties.

    None of the other answers may get more than `most` votes.
    """
    rivals = sum(count >= most for count in others)
    ways = np.zeros((num_samples + 1, rivals + 1))
    ways[0, 0] = 1.0

    # `ways[i, t]`: so many ways to take `i` votes, with `t` answers at `most` votes each.
    for count in others:
        grown = ways.copy()
        for taken in range(1, min(count, most) + 1):
            chosen = comb(count, taken) * ways[:-taken]
            if taken < most:
                grown[taken:] += chosen
            else:
                grown[taken:, 1:] += chosen[:, :-1]
        ways = grown

    return ways @ (1.0 / np.arange(1, rivals + 2))


def _check_k(k: int, num_samples: int) -> None:
    if not 1 <= k <= num_samples:
        raise ValueError(f"k={k} must lie between 1 and the number of responses, {num_samples}")
