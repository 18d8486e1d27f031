"""The learning rate's warm-up and decay."""

from __future__ import annotations

import pytest

from rllib_dapo.learner.schedule import LR_SCHEDULES, LRSchedule, learning_rate_factor

# A decay over 100 optimizer steps. By hand: cos(pi / 4) = 0.70711, so a quarter of the way leaves
# 0.85355 by cosine.
DECAY = 100


@pytest.mark.parametrize("schedule", LR_SCHEDULES)
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
def test_the_rate_rises_linearly_over_the_warm_up(
    schedule: LRSchedule, progress: float, warmup_steps: float, factor: float
) -> None:
    found = learning_rate_factor(
        progress=progress,
        warmup_steps=warmup_steps,
        updates_after_warmup=0,
        schedule=schedule,
        decay_updates=DECAY,
        end_fraction=0.25,
    )
    assert found == pytest.approx(factor)


@pytest.mark.parametrize(
    ("schedule", "end_fraction", "updates", "factor"),
    [
        ("constant", 0.0, 0, 1.0),
        ("constant", 0.0, 1000, 1.0),
        ("linear", 0.0, 0, 1.0),
        ("linear", 0.0, 1, 0.99),
        ("linear", 0.0, 25, 0.75),
        ("linear", 0.0, 100, 0.0),
        ("linear", 0.0, 101, 0.0),
        ("linear", 0.2, 50, 0.6),  # half of the way from 1 to 0.2
        ("linear", 0.2, 1000, 0.2),
        ("linear", 1.0, 50, 1.0),
        ("cosine", 0.0, 0, 1.0),
        ("cosine", 0.0, 25, 0.853553),
        ("cosine", 0.0, 50, 0.5),
        ("cosine", 0.0, 75, 0.146447),
        ("cosine", 0.0, 100, 0.0),
        ("cosine", 0.1, 25, 0.868198),  # 0.1 + 0.9 * 0.853553
        ("cosine", 0.1, 1000, 0.1),
    ],
)
def test_after_the_warm_up_the_rate_falls_by_optimizer_steps_and_stays_at_its_end(
    schedule: LRSchedule, end_fraction: float, updates: int, factor: float
) -> None:
    found = learning_rate_factor(
        progress=20 + updates / 16,
        warmup_steps=20,
        updates_after_warmup=updates,
        schedule=schedule,
        decay_updates=None if schedule == "constant" else DECAY,
        end_fraction=end_fraction,
    )
    assert found == pytest.approx(factor, abs=1e-6)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_rate_never_rises_again_after_the_warm_up(schedule: LRSchedule) -> None:
    factors = [
        learning_rate_factor(
            progress=1.0 + updates,
            warmup_steps=0,
            updates_after_warmup=updates,
            schedule=schedule,
            decay_updates=7,
            end_fraction=0.3,
        )
        for updates in range(12)
    ]

    assert factors[0] == 1.0
    assert factors == sorted(factors, reverse=True)
    assert factors[7:] == pytest.approx([0.3] * 5)
