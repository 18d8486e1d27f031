"""A Learner that notices when its update hangs, such as in a collective that another has left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override

from rllib_dapo.stall_watchdog import StallWatchdog

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig


class WatchedLearner(TorchLearner):
    """Ends its process where no micro-batch ends for `training.stall_seconds`.

    Attributes:
        num_forwarded: Number of micro-batches that have been computed in this update.
        update_span: When the last update began and ended, in seconds since the epoch; None before
            the first one.
    """

    config: DAPOConfig
    num_forwarded = 0
    update_span: tuple[float, float] | None = None

    @override(Learner)
    def update(self, *args: Any, **kwargs: Any) -> Any:
        """RLlib's, watched."""
        self.num_forwarded = 0
        watchdog, began = StallWatchdog(self.config.update_stall_seconds), time.time()
        with watchdog.watching(lambda: self.num_forwarded, self._stalled):
            result = super().update(*args, **kwargs)
        self.update_span = began, time.time()
        return result

    def _stalled(self, seconds: float) -> str:
        return (
            f"{self!r} has made no progress for {seconds:.0f} s: {self.num_forwarded} micro-batches"
            " of the update were computed, and no further one ended. It hangs, or waits for another"
            " Learner that does; training.stall_seconds="
            f"{self.config.update_stall_seconds:g} says how long one may take"
        )
