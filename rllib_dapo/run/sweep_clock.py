"""How long a sweep will take still, from what it has done so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection


class SweepClock:
    """Counts iterations of all trials since the sweep began or went on.

    Trials that run at the same time count together, so the estimate holds for any number of them.
    """

    def __init__(
        self, *, iterations: int | None, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Begins to count.

        Args:
            iterations: Iterations of a trial, if that is known.
            now: Clock, in seconds.
        """
        self._iterations = iterations
        self._now = now
        self._at: dict[str, int] = {}  # by trial, its newest iteration
        self._done = 0
        self.start()

    def __getstate__(self) -> dict[str, object]:
        """Tune pickles callbacks, before they have counted anything."""
        return {"_iterations": self._iterations, "_at": {}, "_done": 0, "_started": 0.0}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Counts from here on."""
        self.__dict__.update(state)
        self._now = time.monotonic
        self.start()

    def start(self) -> None:
        """Begins to count time."""
        self._started = self._now()

    def note(self, trial: str, iteration: int) -> None:
        """Takes note of an iteration that has ended."""
        self._at[trial] = iteration
        self._done += 1

    def seconds_left(self, num_trials: int, ended: Collection[str]) -> float | None:
        """Seconds until the last trial has ended.

        Args:
            num_trials: Number of all trials, those to come among them.
            ended: Names of the trials that have ended, on time or early.

        Returns:
            The estimate. Trials to come are thought as long as those that have ended on average.
            None where the length of a trial is not known.
        """
        if self._iterations is None or not self._done:
            return None
        lengths = [self._at[trial] for trial in ended if trial in self._at]
        usual = sum(lengths) / len(lengths) if lengths else float(self._iterations)

        under_way = [at for trial, at in self._at.items() if trial not in ended]
        left = sum(max(0, self._iterations - at) for at in under_way)
        to_come = max(0, num_trials - len(under_way) - len(ended))
        return (left + to_come * usual) * (self._now() - self._started) / self._done
