"""What earlier visits say of prompts: where no signal is expected, they are visited less often.

A group whose responses are all right, or all wrong, costs as much as any other and trains nothing,
and a prompt that gave none will probably give none the next time (GRESO, arXiv 2506.02177). So
some of its visits are skipped, before anything is sampled. Never all of them: the policy changes.

Three choices say how often a prompt is visited, as a probability:

- `plain`: one in four after a visit without a signal, one in four of that after the next in a row,
  and so on. A visit with a signal makes it 1 again (GRESO's rule, with a fixed base).
- `information`: the probability that a group of `G` responses has a signal, `1 - p^G - (1 - p)^G`,
  expected under the Beta posterior of the success rate `p` (as MoPPS models it, arXiv 2507.04632),
  over that of a prompt never seen; squared, since in proportion most tokens would still go to
  prompts of which little is expected. Each visit halves the weight of those before it.
- `pools`: three pools by the success rate, of which the easy and the hard one are visited less
  often (prime-rl's buffer has such pools).

Prompts are told apart by their tokens, so the memory knows a problem again in the next epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import ray
from numpy.typing import NDArray

from rllib_dapo.core.prompt_key import uniform_draw
from rllib_dapo.core.types import GroupSummary
from rllib_dapo.rollout.group_decisions import WITHOUT_SIGNAL, Decision, decide

PromptMemoryChoice = Literal["plain", "information", "pools"]

# However little is expected of a prompt, it is visited as often as this.
LEAST_OFTEN = 1 / 16
PLAIN_BASE = 1 / 4
EASY, HARD = 0.9, 0.1  # success rates from which, and up to which, a prompt is in these pools
EASY_RATE, HARD_RATE = LEAST_OFTEN, 1 / 8
# The prior of success rates is Beta(0.1, 0.1), since a model solves most problems nearly always or
# hardly ever: of the groups of eight to prompts never seen a fifth has a signal then, of those of
# 16 a quarter. Under a uniform prior, 16 wrong responses would still let a signal be expected every
# other time.
_PRIOR = 0.1
CAPACITY = 1_000_000  # prompts; one takes about 200 bytes


@dataclass(slots=True)
class PromptRecord:
    """What is known of a prompt.

    Attributes:
        visits: Number of groups that were sampled.
        without_signal: How many of them in a row, up to the last one, had no signal.
        right: Number of right responses; each visit halves what was there before.
        wrong: The same for wrong ones.
        version: Version of the weights at the last visit.
    """

    visits: int = 0
    without_signal: int = 0
    right: float = 0.0
    wrong: float = 0.0
    version: int = 0


@dataclass(frozen=True, slots=True)
class VisitRates:
    """How often the prompts of a step are visited; all others are always visited.

    Attributes:
        keys: `[N]` uint64, sorted: keys of prompts, see `prompt_key`.
        rates: `[N]` float32 probabilities.
    """

    keys: NDArray[np.uint64]
    rates: NDArray[np.float32]

    def visits(self, key: int, seed: int) -> bool:
        """Whether to sample a group; the same key, seed and rates give the same answer."""
        place = int(np.searchsorted(self.keys, np.uint64(key)))
        if place == len(self.keys) or int(self.keys[place]) != key:
            return True
        return uniform_draw(key, seed) < float(self.rates[place])

    def stored(self) -> StoredRates:
        """Leaves the rates in Ray's object store."""
        return StoredRates(reference=ray.put(self))

    def fetch(self) -> VisitRates:
        """Returns these rates."""
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRates:
    """Rates in the object store, for calls that need them only once in a step."""

    reference: ray.ObjectRef

    def fetch(self) -> VisitRates:
        """Fetches the rates."""
        rates: VisitRates = ray.get(self.reference)
        return rates


class PromptMemory:
    """Keeps a record of every prompt, up to a number of them; those longest unseen go first."""

    def __init__(
        self, choice: PromptMemoryChoice, *, group_size: int, capacity: int = CAPACITY
    ) -> None:
        """Remembers nothing yet.

        Args:
            choice: How records become rates, see above.
            group_size: Number of responses in a group.
            capacity: Largest number of prompts.
        """
        self._choice = choice
        self._group_size = group_size
        self._capacity = capacity
        self._records: dict[int, PromptRecord] = {}  # the one seen last is the last one
        self._rare: dict[int, float] = {}  # rates under 1, by key

    def __len__(self) -> int:
        """Number of prompts that are known."""
        return len(self._records)

    def record(self, key: int) -> PromptRecord | None:
        """What is known of a prompt; None if it is not known."""
        return self._records.get(key)

    def remember(self, groups: Iterable[GroupSummary]) -> None:
        """Takes the groups of a step. Without verdicts nothing is learnt of a prompt.

        Args:
            groups: Those that the batch was chosen from, in the order of their seeds.
        """
        for group in groups:
            decision = decide(group)
            if decision is not Decision.ACCEPTED and decision not in WITHOUT_SIGNAL:
                continue
            record = self._records.pop(group.prompt_key, None) or PromptRecord()
            self._records[group.prompt_key] = record

            record.visits += 1
            record.without_signal = (
                0 if decision is Decision.ACCEPTED else record.without_signal + 1
            )
            record.right = record.right / 2 + group.is_correct.count(True)
            record.wrong = record.wrong / 2 + group.is_correct.count(False)
            record.version = group.weights_version
            self._note_rate(group.prompt_key, record)

        while len(self._records) > self._capacity:
            oldest = next(iter(self._records))
            del self._records[oldest]
            self._rare.pop(oldest, None)

    def visit_rates(self) -> VisitRates:
        """How often prompts are visited in the next step."""
        keys = np.fromiter(self._rare.keys(), dtype=np.uint64, count=len(self._rare))
        rates = np.fromiter(self._rare.values(), dtype=np.float32, count=len(self._rare))
        order = np.argsort(keys)
        return VisitRates(keys=keys[order], rates=rates[order])

    def _note_rate(self, key: int, record: PromptRecord) -> None:
        rate = self._rate(record)
        if rate < 1.0:
            self._rare[key] = rate
        else:
            self._rare.pop(key, None)

    def _rate(self, record: PromptRecord) -> float:
        answered = record.right + record.wrong
        # Where the environment grades and does not say what is right, only signals are known.
        if self._choice == "plain" or not answered:
            return max(LEAST_OFTEN, PLAIN_BASE**record.without_signal)
        if self._choice == "pools":
            success = record.right / answered
            return EASY_RATE if success >= EASY else HARD_RATE if success <= HARD else 1.0
        information = expected_information(record.right, record.wrong, self._group_size)
        never_seen = expected_information(0.0, 0.0, self._group_size)
        return min(1.0, max(LEAST_OFTEN, (information / never_seen) ** 2))

    def get_state(self) -> dict[str, Any]:
        """All records as columns, for a checkpoint."""
        records = list(self._records.values())
        return {
            "keys": np.array(list(self._records), dtype=np.uint64),
            "visits": np.array([r.visits for r in records], dtype=np.int64),
            "without_signal": np.array([r.without_signal for r in records], dtype=np.int64),
            "right": np.array([r.right for r in records], dtype=np.float64),
            "wrong": np.array([r.wrong for r in records], dtype=np.float64),
            "version": np.array([r.version for r in records], dtype=np.int64),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Remembers what a checkpoint has, and nothing else.

        Args:
            state: What `get_state` returned.
        """
        columns = [
            np.asarray(state[name]).tolist()
            for name in ("keys", "visits", "without_signal", "right", "wrong", "version")
        ]
        self._records = {key: PromptRecord(*rest) for key, *rest in zip(*columns, strict=True)}
        self._rare = {}
        for key, record in self._records.items():
            self._note_rate(key, record)


def expected_information(right: float, wrong: float, group_size: int) -> float:
    """The probability that a group has right and wrong responses, expected over success rates.

    `E[1 - p^G - (1 - p)^G]` for `p ~ Beta(0.1 + right, 0.1 + wrong)`, where `E[p^G]` is
    `B(a + G, b) / B(a, b)`.

    Args:
        right: Right responses seen; may be fractional.
        wrong: Wrong responses seen.
        group_size: `G`.
    """
    a, b = _PRIOR + right, _PRIOR + wrong

    def power(a: float, b: float) -> float:
        return math.exp(
            math.lgamma(a + group_size)
            - math.lgamma(a)
            + math.lgamma(a + b)
            - math.lgamma(a + b + group_size)
        )

    return 1.0 - power(a, b) - power(b, a)
