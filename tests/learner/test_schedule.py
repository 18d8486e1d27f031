"""The learning rate's warm-up."""

from __future__ import annotations

import pytest

from rllib_dapo.learner.schedule import warmup_factor


@pytest.mark.parametrize(
    ("progress", "warmup_steps", "factor"),
    [
        # the paper: 20 training steps of 16 optimizer steps
        (1 / 16, 20, 1 / 320),
        (10, 20, 0.5),
        (20, 20, 1.0),
        (21, 20, 1.0),
        (0.25, 0.5, 0.5),
        (1 / 16, 0, 1.0),
    ],
)
def test_the_rate_rises_linearly_over_the_warm_up(progress: float, warmup_steps: float, factor: float) -> None:
    assert warmup_factor(progress, warmup_steps) == pytest.approx(factor)
