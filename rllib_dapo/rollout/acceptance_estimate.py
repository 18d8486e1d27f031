"""How many of the groups under way will be accepted, and how many more to ask for."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

from rllib_dapo.rollout.outlooks import UNKNOWN, Outlook

# What a step's groups count for in the next one: the policy changes, and with it the share. Five
# steps' worth of groups are known then, and a share that doubles is half followed after three.
_KEPT = 0.8

# A group that is asked for in vain costs its tokens: a tenth of what a batch of eight costs, and a
# thousandth where the batch is large. One that is asked for late costs what is then left of its
# longest response, and all engines wait for it. So a small batch has further groups begun only
# where even more than is expected of those under way would not do, and a large one where less
# would not. In standard deviations: so many with one prompt, and so many fewer with twice as many;
# none with 128.
_MOST_MARGIN, _MARGIN_PER_DOUBLING = 3.15, 0.45


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptanceEstimate:
    """Counts of the groups of steps so far, of earlier steps for less.

    Attributes:
        accepted: Groups that were accepted.
        sampled: Groups that were sampled.
        asked: Groups that were asked for, those included that were skipped.
    """

    accepted: float = 1.0
    sampled: float = 1.0
    asked: float = 1.0

    @classmethod
    def of(cls, counts: Mapping[str, float]) -> Self:
        """Reads what `as_dict` has written."""
        return cls(**counts)

    def as_dict(self) -> dict[str, float]:
        """The counts, for a checkpoint."""
        return asdict(self)

    def after(self, *, accepted: int, sampled: int, asked: int) -> AcceptanceEstimate:
        """With further groups of the same step."""
        return AcceptanceEstimate(
            accepted=self.accepted + accepted,
            sampled=self.sampled + sampled,
            asked=self.asked + asked,
        )

    def next_step(self) -> AcceptanceEstimate:
        """As the next step begins with it."""
        return AcceptanceEstimate(
            accepted=_KEPT * self.accepted, sampled=_KEPT * self.sampled, asked=_KEPT * self.asked
        )

    @property
    def rate(self) -> float:
        """Share of sampled groups that are accepted."""
        return _share(self.accepted, self.sampled)

    def chance(self, outlook: Outlook) -> float:
        """How probable it is that a group will be accepted, of which all verdicts agree so far.

        Prompts are taken for a mixture: on some all verdicts agree whatever is sampled, on the rest
        the share of right answers is uniform on (0, 1). Of the latter, `k` verdicts agree with
        probability `2 / (k + 1)`; if they do, all `n` do with `(k + 1) / (n + 1)` (Laplace's rule
        of succession). The mixture's weight `w` follows from `rate = w (n - 1) / (n + 1)`.

        Args:
            outlook: What is known of the group.
        """
        if outlook.is_sure:
            return 1.0
        if outlook == UNKNOWN:
            return _share(self.accepted, self.asked)
        known, total = outlook.known, outlook.total
        if total < 2:
            return 0.0
        if known == 0:
            return self.rate

        mixed = min(1.0, self.rate * (total + 1) / (total - 1))
        agree = mixed * 2 / (known + 1)
        return agree * (total - known) / (total + 1) / max(agree + 1 - mixed, 1e-9)

    def further(
        self, *, wanted: int, batch: int, under_way: Mapping[Outlook, int], max_oversampling: float
    ) -> int:
        """How many groups to ask for.

        With nothing under way at least as many as will do on average. Fewer, where some will be
        skipped: how many is told at once, and what is begun too much cannot be taken back.

        Args:
            wanted: Number of accepted groups that are still wanted.
            batch: Number of groups in a full batch.
            under_way: Number of groups under way by what is known of them.
            max_oversampling: Largest ratio of groups under way to groups wanted. A group of which
                less is expected than of a new one counts for less.
        """
        rate = self.chance(UNKNOWN)
        rate_variance = rate * (1 - rate) / (self.asked + 1)
        chances = [(self.chance(outlook), count) for outlook, count in under_way.items()]
        expected = math.fsum(chance * count for chance, count in chances)
        variance = math.fsum(chance * (1 - chance) * count for chance, count in chances)
        margin = _MOST_MARGIN - _MARGIN_PER_DOUBLING * math.log2(batch)
        if not chances and self.asked <= self.sampled:
            margin = min(margin, 0.0)
        # Their chances are the rate, and as uncertain as it is.
        num_unknown = sum(n for one, n in under_way.items() if not one.known and not one.is_sure)

        def will_do(count: int) -> bool:
            unknown = num_unknown + count
            spread = variance + count * rate * (1 - rate)
            # A rate that may be lower soon shows; it is no reason to ask for more beforehand.
            spread += unknown**2 * rate_variance if margin > 0 else 0.0
            return expected + count * rate + margin * math.sqrt(spread) >= wanted - 1e-6

        # The limit is on groups that are sampled: of those asked for, some will be skipped.
        taken = math.fsum(min(1.0, chance / self.rate) * count for chance, count in chances)
        left = max(0.0, wanted * max_oversampling - taken) * self.rate / rate
        most = math.ceil(left - 1e-6)
        return bisect_left(range(most), True, key=will_do)


def _share(part: float, whole: float) -> float:
    """Never zero: a task without any signal would be asked about without end."""
    return min(1.0, max(part / whole, 1e-3)) if whole > 0 else 1.0
