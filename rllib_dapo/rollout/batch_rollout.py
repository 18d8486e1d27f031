"""The rollout for a training batch, which goes on from one call of the driver to the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from rllib_dapo.core.types import PromptGroup
from rllib_dapo.rollout.open_rollout import OpenRollout
from rllib_dapo.rollout.prompt_memory import StoredRates, VisitRates

Rates = StoredRates | VisitRates | None


class BatchRollout:
    """Holds what an EnvRunner has under way for one batch.

    Attributes:
        rollout: What is under way; None if nothing was begun, or all of it was given up.
    """

    def __init__(self, begin: Callable[[], OpenRollout]) -> None:
        """Nothing is begun yet.

        Args:
            begin: Begins a rollout, with nothing in it.
        """
        self._begin = begin
        self._batch = 0
        self._rates: Rates = None
        self.rollout: OpenRollout | None = None

    def advance(
        self,
        seeds: Sequence[int],
        *,
        batch: int,
        seconds: float,
        rates: Rates = None,
        drop: Collection[int] = (),
    ) -> tuple[OpenRollout, list[PromptGroup]]:
        """Adds groups and goes on until all have ended, or time is up.

        Args:
            seeds: Prompt seeds of further groups.
            batch: Number of the batch that they are for; groups of another one are given up.
            seconds: How long to go on. Short groups are sampled whole, as one batch; of long ones
                the caller hears as soon as this.
            rates: How often the batch's prompts are visited; None visits all.
            drop: Prompt seeds of groups that are no longer wanted.

        Returns:
            The rollout, and its groups that have ended.
        """
        if batch != self._batch:
            self.give_up()
            self._batch = batch
        is_new = self.rollout is None
        rollout = self.rollout = self.rollout or self._begin()
        if is_new or not _are_same(rates, self._rates):
            self._rates = rates
            rollout.visit_rates = None if rates is None else rates.fetch()

        rollout.drop(drop)
        rollout.add(seeds)
        if rollout.has_ended:  # without being sampled: the caller may want others in their place
            return rollout, rollout.advance()

        until = time.monotonic() + seconds
        groups: list[PromptGroup] = []
        while not rollout.is_idle and (left := until - time.monotonic()) > 0:
            groups += rollout.advance(most_seconds=left)
        return rollout, groups

    def note_version(self, version: int) -> None:
        """Says that what is under way goes on under other weights.

        Args:
            version: Their version.
        """
        if self.rollout is not None:
            self.rollout.weights_version = version

    def is_under_way(self) -> bool:
        """Whether a group of the batch has not ended."""
        return self.rollout is not None and not self.rollout.is_idle

    def give_up(self) -> None:
        """Leaves nothing of it in engine and environments."""
        if self.rollout is not None:
            self.rollout.give_up()
            self.rollout = None


def _are_same(rates: Rates, others: Rates) -> bool:
    """Without a look at the numbers: those of a step are one object, here or in the store."""
    return rates is others or (isinstance(rates, StoredRates) and rates == others)
