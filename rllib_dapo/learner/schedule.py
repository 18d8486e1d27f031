"""The learning rate as a function of training progress."""

from __future__ import annotations


def warmup_factor(progress: float, warmup_steps: float) -> float:
    """Linear warm-up: the share of the full learning rate.

    Args:
        progress: Training steps done, including the optimizer step about to be taken: with 16 mini-batches per
            training step, the first one is at 1/16.
        warmup_steps: Length of the warm-up in training steps (rollouts), as the paper counts it; 0 for none.

    Returns:
        A factor in (0, 1].
    """
    return 1.0 if warmup_steps <= 0 else min(1.0, progress / warmup_steps)
