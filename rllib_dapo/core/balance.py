"""Micro-batches of like work for every Learner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rllib_dapo.core.row_work import TOKENS_ALONE, RowWork
from rllib_dapo.core.rows import Row, row_tokens, row_work

# Halvings of the search for the smallest load: the last one moves it by less than a thousandth.
HALVINGS = 12
# More micro-batches than must be give finer shares. Each has costs of its own, such as those of
# weights that are cast or gathered: about those of so many tokens.
MORE_ROUNDS, ROUND_TOKENS = 3, 256
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Balance:
    """Who computes which rows, and when.

    Attributes:
        runs: For each Learner its micro-batches, equally many for all; some may be empty.
        load: Estimated work of the Learner that has most, padding included.
    """

    runs: list[list[list[Row]]]
    load: float


def balance_rows(
    rows: Sequence[Row], *, max_tokens: int, num_shards: int = 1, work: RowWork = TOKENS_ALONE
) -> Balance:
    """`min max_shard Σ_runs work(run)`, with `rows * longest row <= max_tokens` for every run.

    Rows go out in descending length, so those of a micro-batch are alike and little is padded. In
    each round every Learner takes rows up to its share of the load, the one with least before the
    others: long rows come first, and the short ones of the last round even out what they left.

    Args:
        rows: Rows of one mini-batch.
        max_tokens: Bound on the padded size of a micro-batch, in tokens; a single row that is
            longer goes alone.
        num_shards: Number of Learners.
        work: What tokens cost.

    Source: bisection for the smallest load that a greedy placement keeps to; longest first is
    Graham 1969 (doi 10.1137/0117039).
    """
    ordered = sorted(rows, key=row_tokens, reverse=True)
    fewest = -(-_fewest_runs([row_tokens(row) for row in ordered], max_tokens) // num_shards)
    best, least = Balance([[] for _ in range(num_shards)], 0.0), float("inf")
    for rounds in range(fewest, fewest + 1 + (MORE_ROUNDS if num_shards > 1 else 0)):
        found = _Placement(ordered, max_tokens, num_shards, work, rounds).best()
        cost = found.load + rounds * ROUND_TOKENS
        if cost < least:
            best, least = found, cost
    return best


def _fewest_runs(lengths: Sequence[int], max_tokens: int) -> int:
    """Number of the longest runs of descending `lengths` with `count * longest <= max_tokens`."""
    count, start = 0, 0
    for i in range(1, len(lengths) + 1):
        if i == len(lengths) or lengths[start] * (i + 1 - start) > max_tokens:
            count, start = count + 1, i
    return count


class _Placement:
    """Rows, in descending length, to be placed in a number of rounds."""

    def __init__(
        self, rows: list[Row], max_tokens: int, num_shards: int, work: RowWork, rounds: int
    ) -> None:
        self._rows, self._lengths = rows, [row_tokens(row) for row in rows]
        self._costs = [row_work(row, work) for row in rows]
        self._max_tokens, self._num_shards, self._rounds = max_tokens, num_shards, rounds

    def best(self) -> Balance:
        """The placement with the smallest largest load."""
        best = self.within(float("inf"))
        assert best is not None  # runs as long as can be always suffice
        low = (sum(self._lengths) + sum(self._costs)) / self._num_shards

        # First the same load once more: its rounds are even.
        middle = high = best.load
        for _ in range(HALVINGS):
            found = self.within(middle)
            if found is None:
                low = middle
            else:
                best = found if found.load <= best.load else best
                high = min(middle, found.load)
            middle = (low + high) / 2
        return best

    def within(self, load: float) -> Balance | None:
        """Places all rows so that no Learner has more than this work; None if that fails."""
        runs: list[list[list[Row]]] = [[] for _ in range(self._num_shards)]
        loads, start = [0.0] * self._num_shards, 0
        for done in range(1, self._rounds + 1):
            share = load * done / self._rounds
            for shard in sorted(range(self._num_shards), key=loads.__getitem__):
                end, cost = self._run(start, loads[shard], share=share, most=load)
                runs[shard].append(self._rows[start:end])
                loads[shard] += cost
                start = end
        return Balance(runs, max(loads)) if start == len(self._rows) else None

    def _run(self, start: int, before: float, *, share: float, most: float) -> tuple[int, float]:
        """End and work of the longest run from here on that fits."""
        end, cost, beside = start, 0.0, 0.0
        while end < len(self._rows):
            beside += self._costs[end]
            count = end + 1 - start
            padded = count * self._lengths[start]

            # A first row may be longer than a whole share.
            limit = share if count > 1 else most
            is_too_long = count > 1 and padded > self._max_tokens
            if is_too_long or before + padded + beside > limit * (1 + ROUNDING):
                break
            end, cost = end + 1, padded + beside
        return end, cost
