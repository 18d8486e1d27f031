"""The Learners' weights as a transfer wants them: what they are, and then one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from rllib_dapo.weight_transfer.wire.buckets import WeightMeta


class WeightSender(Protocol):
    """A Learner's end of a connection with engines; vLLM's `TrainerWeightTransferEngine`."""

    def send_weights(self) -> None:
        """Sends all weights; called on every Learner at the same time."""

    def shutdown(self) -> None:
        """Leaves the connection."""


class LearnerWeights:
    """The language model's weights by their checkpoint's names; the form of vLLM's `WeightSource`.

    Gathering a sharded weight is a call that all Learners make. So all of them must go through the
    whole iterator, and on any Learner but the first nothing comes out of it.
    """

    def __init__(
        self,
        weights: Callable[[], Iterator[tuple[str, Tensor]]],
        *,
        dtype: torch.dtype,
        converted: bool,
    ) -> None:
        """Takes hold of a Learner's weights.

        Args:
            weights: Goes through all weights, as they are now.
            dtype: Type in which floating-point numbers travel.
            converted: Whether they come in that type, or as the Learner holds them: what is copied
                anyway can be converted by the same copy.
        """
        self._weights = weights
        self._dtype = dtype
        self._converted = converted
        self._metas: list[WeightMeta] | None = None

    def metadata(self) -> list[WeightMeta]:
        """What will come, in the order in which it comes; empty on any Learner but the first.

        What a checkpoint's names and shapes are is known for certain only when the weights are
        made. So they are made once for this, and never again.
        """
        if self._metas is None:
            self._metas = [
                WeightMeta(name, self._travels_as(tensor), tuple(tensor.shape))
                for name, tensor in self._weights()
            ]
        return self._metas

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        weights = self._weights()
        try:
            for name, tensor in weights:
                held = tensor.detach()
                yield name, held.to(self._travels_as(held)) if self._converted else held
        finally:
            # Where sending has failed in the middle, the other Learners are still gathering.
            deque(weights, maxlen=0)

    def _travels_as(self, tensor: Tensor) -> torch.dtype:
        return self._dtype if tensor.is_floating_point() else tensor.dtype
