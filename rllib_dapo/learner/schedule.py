"""The learning rate as a function of training progress."""

from __future__ import annotations

import math
from typing import Literal, get_args

LRSchedule = Literal["constant", "linear", "cosine"]
LR_SCHEDULES: tuple[str, ...] = get_args(LRSchedule)


def learning_rate_factor(
    *,
    progress: float,
    warmup_steps: float,
    updates_after_warmup: int,
    schedule: LRSchedule,
    decay_updates: int | None,
    end_fraction: float,
) -> float:
    """Share of the full learning rate: a linear warm-up, then a constant rate or a decay.

    With `x = min(1, updates_after_warmup / decay_updates)` and the share `e = end_fraction` of the
    rate that remains at the end:

    | `schedule` | factor after the warm-up |
    | --- | --- |
    | `constant` | 1 |
    | `linear` | `e + (1 - e) (1 - x)` |
    | `cosine` | `e + (1 - e) (1 + cos(pi x)) / 2` |

    Args:
        progress: Number of training steps done, including the optimizer step about to be taken:
            with 16 mini-batches per training step, the first one is at 1/16.
        warmup_steps: Length of the warm-up in training steps (rollouts), as the paper counts it; 0
            for none. The rate grows with every optimizer step all the same.
        updates_after_warmup: Number of optimizer steps taken since `progress` reached
            `warmup_steps`, not counting the one about to be taken: the first of them has the full
            rate. It has no effect during the warm-up.
        schedule: What follows the warm-up.
        decay_updates: Number of optimizer steps from the end of the warm-up to the end of the
            decay; unused by `constant`.
        end_fraction: Share of the rate at the end of the decay and ever after.

    Returns:
        A factor in [0, 1].
    """
    if progress < warmup_steps:
        return progress / warmup_steps
    if schedule == "constant" or decay_updates is None:
        return 1.0

    done = min(1.0, updates_after_warmup / decay_updates)
    left = 1.0 - done if schedule == "linear" else (1.0 + math.cos(math.pi * done)) / 2.0
    return end_fraction + (1.0 - end_fraction) * left
