"""The learning rate's warm-up and decay."""

from __future__ import annotations

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.schedule import (
    LR_SCHEDULES,
    LRSchedule,
    is_after_warmup,
    learning_rate_factor,
    learning_rates,
)

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


@pytest.mark.parametrize(
    ("progress", "updates", "policy", "critic", "counts"),
    [
        # 16 optimizer steps in a training step: 5 training steps of the critic alone, then 20 in
        # which the policy's rate rises, then a linear decay over 100 optimizer steps.
        (1 / 16, 0, 0.0, 1e-3, False),
        (5, 0, 0.0, 1e-3, False),
        (5 + 1 / 16, 0, 1e-6 / 320, 1e-3, False),
        (15, 0, 0.5e-6, 1e-3, False),
        (25, 0, 1e-6, 1e-3, True),
        (25 + 1 / 16, 1, 0.99e-6, 0.99e-3, True),
        (30, 80, 0.2e-6, 0.2e-3, True),
        (40, 240, 0.0, 0.0, True),
    ],
)
def test_the_policys_course_begins_where_the_critics_warm_up_ends(
    progress: float, updates: int, policy: float, critic: float, counts: bool
) -> None:
    config = (
        DAPOConfig()
        .training(advantage_estimator="gae", lr=1e-6, warmup_steps=20)
        .training(lr_schedule="linear", lr_decay_updates=DECAY)
        .critic(lr=1e-3, warmup=5)
    )
    found = learning_rates(config, progress=progress, updates_after_warmup=updates)
    assert found == pytest.approx((policy, critic))
    assert is_after_warmup(config, progress) is counts


def test_without_a_critic_its_warm_up_delays_nothing() -> None:
    config = DAPOConfig().training(lr=1e-6, warmup_steps=0).critic(warmup=5)
    assert learning_rates(config, progress=1 / 16, updates_after_warmup=0).policy == 1e-6
    assert is_after_warmup(config, 1 / 16)
