"""Sums over tokens, kept until the end of an update.

So every mean is one division of two totals.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from rllib_dapo.learner.collectives import gather


class TokenStatistics:
    """Running sums and maxima over the micro-batches of one update.

    Means of means would be wrong: micro-batches, and Learners, hold different numbers of tokens.
    """

    def __init__(self) -> None:
        """Starts empty."""
        self._sums: defaultdict[str, float | Tensor] = defaultdict(float)
        self._maxima: dict[str, Tensor] = {}
        self._common: defaultdict[str, float | Tensor] = defaultdict(float)

    def copy(self) -> Self:
        """Totals as they are now, whatever is added later."""
        copied = type(self)()
        copied._sums |= self._sums
        copied._maxima |= self._maxima
        copied._common |= self._common
        return copied

    def add(self, **values: Tensor | float) -> None:
        """Adds to sums; nothing is moved off the device."""
        for name, value in values.items():
            self._sums[name] = self._sums[name] + _detached(value)

    def add_common(self, **values: Tensor | float) -> None:
        """Adds to sums that are the same on every Learner, such as the count of optimizer steps."""
        for name, value in values.items():
            self._common[name] = self._common[name] + _detached(value)

    def maximum(self, **values: Tensor) -> None:
        """Keeps the larger value of each name."""
        for name, value in values.items():
            self._maxima[name] = torch.maximum(self._maxima.get(name, value), value).detach()

    def add_loss(self, statistics: Mapping[str, Tensor]) -> None:
        """Adds the statistics of a loss: those whose name ends in `_max` are maxima, others sums.

        Args:
            statistics: What `core.dapo_objective` gives beside the loss.
        """
        for name, value in statistics.items():
            (self.maximum if name.endswith("_max") else self.add)(**{name: value})

    def reduce(self) -> None:
        """Replaces this Learner's totals by those of all Learners; a collective."""
        everybody = gather(
            (
                {k: float(v) for k, v in self._sums.items()},
                {k: float(v) for k, v in self._maxima.items()},
            )
        )

        sums: defaultdict[str, float | Tensor] = defaultdict(float)
        maxima: dict[str, Tensor] = {}
        for their_sums, their_maxima in everybody:
            for name, value in their_sums.items():
                sums[name] += value
            for name, value in their_maxima.items():
                maxima[name] = torch.tensor(max(value, float(maxima.get(name, value))))

        self._sums, self._maxima = sums, maxima

    def sum(self, name: str) -> float:
        """A total; 0 if nothing was added."""
        return float(self._sums.get(name, 0.0) + self._common.get(name, 0.0))

    def names(self, prefix: str) -> list[str]:
        """The sums whose names begin so."""
        return sorted(name for name in self._sums if name.startswith(prefix))

    def has(self, name: str) -> bool:
        """Whether anything was added to a sum."""
        return name in self._sums or name in self._common

    def mean(self, name: str, over: str = "tokens") -> float:
        """`sum(name) / sum(over)`; 0 over nothing."""
        total = self.sum(over)
        return self.sum(name) / total if total else 0.0

    def max(self, name: str) -> float:
        """A maximum; 0 if there was none."""
        return float(self._maxima.get(name, 0.0))


def _detached(value: Tensor | float) -> Tensor | float:
    return value.detach() if isinstance(value, Tensor) else value
