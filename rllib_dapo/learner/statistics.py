"""Sums over tokens, kept until the end of an update, so that every mean is one division of two totals."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor


class TokenStatistics:
    """Running sums and maxima over the micro-batches of one update.

    Means of means would be wrong: micro-batches hold different numbers of tokens.
    """

    def __init__(self) -> None:
        """Starts empty."""
        self._sums: defaultdict[str, float | Tensor] = defaultdict(float)
        self._maxima: dict[str, Tensor] = {}

    def add(self, **values: Tensor | float) -> None:
        """Adds to sums; nothing is moved off the device."""
        for name, value in values.items():
            self._sums[name] = self._sums[name] + (value.detach() if isinstance(value, Tensor) else value)

    def maximum(self, **values: Tensor) -> None:
        """Keeps the larger."""
        for name, value in values.items():
            self._maxima[name] = torch.maximum(self._maxima.get(name, value), value).detach()

    def sum(self, name: str) -> float:
        """A total; 0 if nothing was added."""
        return float(self._sums[name])

    def mean(self, name: str, over: str = "tokens") -> float:
        """`sum(name) / sum(over)`; 0 over nothing."""
        total = self.sum(over)
        return self.sum(name) / total if total else 0.0

    def max(self, name: str) -> float:
        """A maximum; 0 if there was none."""
        return float(self._maxima.get(name, 0.0))
