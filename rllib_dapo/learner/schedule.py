"""The learning rates as functions of training progress."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

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


class LearningRates(NamedTuple):
    """The rates of one optimizer step.

    Attributes:
        policy: That of the language model; 0 in the critic's warm-up.
        critic: That of the value head.
    """

    policy: float
    critic: float


def learning_rates(
    config: DAPOConfig, *, progress: float, updates_after_warmup: int
) -> LearningRates:
    """The rates of the next optimizer step.

    The policy's course begins when the critic's warm-up is over. The critic's rate has the same
    course; but if it has a warm-up, it needs none of its rate, which is then full from the first
    step to the beginning of the decay.

    Args:
        config: The algorithm's configuration.
        progress: As in `learning_rate_factor`, from the very beginning of training.
        updates_after_warmup: As in `learning_rate_factor`: the optimizer steps for which
            `is_after_warmup` held.
    """
    critic_warmup = config.critic_warmup if config.has_critic else 0

    def factor(warmup_steps: float) -> float:
        return learning_rate_factor(
            progress=progress - critic_warmup,
            warmup_steps=warmup_steps,
            updates_after_warmup=updates_after_warmup,
            schedule=config.lr_schedule,
            decay_updates=config.lr_decay_updates,
            end_fraction=config.lr_end_fraction,
        )

    critic_lr = config.lr if config.critic_lr is None else config.critic_lr
    if progress <= critic_warmup:
        return LearningRates(policy=0.0, critic=critic_lr)

    return LearningRates(
        policy=config.lr * factor(config.warmup_steps),
        critic=critic_lr * factor(0 if critic_warmup else config.warmup_steps),
    )


def is_after_warmup(config: DAPOConfig, progress: float) -> bool:
    """Whether an optimizer step lies behind both warm-ups, the critic's and the learning rate's.

    Args:
        config: The algorithm's configuration.
        progress: As in `learning_rate_factor`, from the very beginning of training.
    """
    critic_warmup = config.critic_warmup if config.has_critic else 0
    return progress > critic_warmup and progress - critic_warmup >= config.warmup_steps
