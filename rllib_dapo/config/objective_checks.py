"""Checks of the objective: clipping, advantages, KL, importance sampling, value model, schedule."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rllib_dapo.config.objective_choice import check_choices
from rllib_dapo.findings import at_least, within

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

_FUNCTION_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
# What does nothing in a shipped objective while every ratio is 1.
_BOUNDS = {
    "clip": "epsilon_low, epsilon_high and dual_clip",
    "cispo": "epsilon_low and epsilon_high",
    "sapo": "sapo_temperatures",
}


def check_objective(config: DAPOConfig) -> Iterator[str]:
    """Findings on everything that the loss is made of.

    Args:
        config: Configuration with values of the right kinds, its search spaces resolved.

    Yields:
        One line for each finding.
    """
    yield from check_choices(config)
    yield from _check_clipping(config)
    yield from _check_token_choice(config)
    yield from _check_schedule(config)
    yield from _check_kl(config)
    yield from _check_importance_sampling(config)
    yield from _check_advantages(config)


def idle_clip_warning(config: DAPOConfig) -> str | None:
    """What to tell a user whose clip bounds cannot do anything, or None where they can.

    Args:
        config: Valid configuration without search spaces.
    """
    # A warning and not an error: one update per rollout is a sound configuration. But a sweep over
    # epsilon_high would compare runs that cannot differ.
    if not config.clip_is_idle or config.objective not in _BOUNDS:
        return None

    responses = config.train_batch_responses
    ratio = (
        "the ratio is 1"
        if config.old_logprobs == "trainer"
        else "the ratio differs from 1 only by what the engine computes otherwise"
    )
    return (
        f"training.minibatch_size={config.minibatch_size} makes one update of the {responses} "
        f"responses of a rollout, and old_logprobs={config.old_logprobs}: {ratio}, so "
        f"{_BOUNDS[config.objective]} do nothing; for more updates lower minibatch_size, to "
        f"{max(1, responses // 4)} for example"
    )


def idle_kl_ratio_warning(config: DAPOConfig) -> str | None:
    """What to tell a user who has set up a divergence that is switched off, or None.

    Args:
        config: Valid configuration without search spaces.
    """
    # No error: a sweep over the coefficient may hold 0.
    if not config.kl_importance_ratio or config.needs_reference:
        return None
    return "kl.importance_ratio=True does nothing at kl.coefficient=0, which has no divergence"


def _check_clipping(config: DAPOConfig) -> Iterator[str]:
    low, high = config.epsilon_low, config.epsilon_high
    why = "ratios are clipped to 1 - epsilon_low"
    interval = "(0, 1)" if config.objective == "clip" else "(0, 1]"
    yield from within("training.epsilon_low", low, interval, why)

    if config.objective != "clip":
        if not high > 0:
            yield f"training.epsilon_high={high} must be positive: ratios are clipped to 1 + it"
    elif high < low:
        yield (
            f"training.epsilon_high={high} must not be under epsilon_low={low}: raise "
            "epsilon_high, or lower epsilon_low"
        )

    if not all(temperature > 0 for temperature in config.sapo_temperatures):
        yield (
            f"training.sapo_temperatures={config.sapo_temperatures!r} must be positive, such as "
            "[1.0, 1.05]"
        )
    if config.dual_clip is not None and not config.dual_clip > 1:
        yield f"training.dual_clip={config.dual_clip} must be over 1, or null to switch it off"


def _check_token_choice(config: DAPOConfig) -> Iterator[str]:
    fraction, mask = config.entropy_mask_fraction, config.token_mask
    if fraction is not None:
        why = "the share of tokens that is trained"
        yield from within("training.entropy_mask_fraction", fraction, "(0, 1]", why)
    if isinstance(mask, str) and not _FUNCTION_NAME.fullmatch(mask):
        yield (
            f"training.token_mask={mask!r} must be written package.module:function, or null to "
            "switch it off"
        )


def _check_schedule(config: DAPOConfig) -> Iterator[str]:
    why = "the share of lr that remains at the end"
    yield from within("training.lr_end_fraction", config.lr_end_fraction, "[0, 1]", why)

    schedule, updates = config.lr_schedule, config.lr_decay_updates
    if schedule == "constant":
        if updates is not None:
            yield (
                f"training.lr_decay_updates={updates} does nothing with lr_schedule=constant: "
                "leave it out, or set lr_schedule to linear or cosine"
            )
    elif updates is None:
        yield (
            f"training.lr_decay_updates=None must be given with lr_schedule={schedule}: the "
            "optimizer steps from the end of the warm-up to the end of the decay"
        )
    else:
        yield from at_least("training.lr_decay_updates", updates, 1)


def _check_kl(config: DAPOConfig) -> Iterator[str]:
    yield from at_least("kl.coefficient", config.kl_coefficient, 0)
    if not config.needs_reference:
        return

    in_reward = config.kl_placement == "reward"
    if config.kl_estimator == "k1" and not in_reward and not config.kl_importance_ratio:
        yield (
            "kl.estimator='k1' has no effect in the loss, where the mean of its gradient is zero: "
            "use k2 or k3, or kl.placement=reward, or kl.importance_ratio=true"
        )
    if config.kl_importance_ratio and in_reward:
        yield (
            "kl.importance_ratio=True does nothing with kl.placement=reward, which has no gradient "
            "of its own: set it to false, or placement to loss"
        )
    if config.kl_importance_ratio and config.kl_estimator == "k2":
        yield (
            "kl.importance_ratio=True makes the gradients of k1 and k3 unbiased, and that of "
            "kl.estimator='k2' wrong: use k1 or k3, or set importance_ratio to false"
        )

    # Only the Learners know the KL, and they only have the responses that are trained on.
    compares_untrained = config.overlong_filtering and config.truncated_in_baseline
    if in_reward and compares_untrained and not config.has_critic:
        yield (
            "overlong.filtering=True takes truncated responses out of what is trained, and with "
            "kl.placement=reward only what is trained is compared: set "
            "overlong.truncated_in_baseline to false"
        )


def _check_importance_sampling(config: DAPOConfig) -> Iterator[str]:
    cap, bounds = config.importance_cap, config.importance_sequence_bounds
    if cap is not None:
        why = "a smaller one would cut what needs no correction"
        yield from at_least("importance_sampling.cap", cap, 1, why)
    for name, pair in (
        ("sequence_bounds", bounds),
        ("token_bounds", config.importance_token_bounds),
    ):
        if pair is not None and not 0 < pair[0] < 1 < pair[1]:
            yield (
                f"importance_sampling.{name}={pair!r} must be two numbers, one between 0 and 1 and "
                "one over 1, such as [0.5, 2.0], or null to switch them off"
            )

    limit = config.start_gap_limit
    if limit is not None and limit != "auto" and not limit > 0:
        yield f"start_guard.limit={limit} must be positive, auto, or null to switch the guard off"

    every = config.guard_every_updates
    if every is not None:
        yield from at_least("start_guard.every_updates", every, 1, "null never looks again")

    if config.old_logprobs != "sampler":
        return
    corrections = {
        f"importance_sampling.cap={cap}": cap is not None,
        f"importance_sampling.sequence_bounds={bounds!r}": bounds is not None,
        f"importance_sampling.token_bounds={config.importance_token_bounds!r}": (
            config.importance_token_bounds is not None
        ),
        "start_guard.action='correct'": config.on_start_gap == "correct",
    }
    for setting in (setting for setting, is_on in corrections.items() if is_on):
        yield (
            f"{setting} contradicts training.old_logprobs=sampler, whose ratio already starts from "
            "the sampler: use old_logprobs=trainer, or leave it out"
        )


def _check_advantages(config: DAPOConfig) -> Iterator[str]:
    least = 1 if config.has_critic else 2
    why = "" if config.has_critic else "an advantage compares responses of one group"
    yield from at_least("training.group_size", config.group_size, least, why)
    if config.has_critic and config.group_size == 1 and config.dynamic_sampling_enabled:
        yield (
            "dynamic_sampling.enabled=True with training.group_size=1 would drop every group, "
            "because a single response is always all right or all wrong: set enabled to false, or "
            "raise group_size"
        )

    yield from within("training.gamma", config.gamma, "[0, 1]")
    yield from within("critic.gae_lambda", config.gae_lambda, "[0, 1]")

    coefficient = config.value_loss_coefficient
    yield from at_least("critic.value_loss_coefficient", coefficient, 0)
    if config.has_critic and coefficient == 0:
        yield (
            f"critic.value_loss_coefficient={coefficient} would never train the value model that "
            "training.advantage_estimator=gae asks for: raise it, or use another estimator"
        )
    yield from at_least("critic.warmup", config.critic_warmup, 0)
    if config.critic_lr is not None:
        yield from at_least("critic.lr", config.critic_lr, 0)
    if config.has_critic and config.critic_lr == 0:
        yield (
            f"critic.lr={config.critic_lr} would never train the value model that "
            "training.advantage_estimator=gae asks for: raise it, or set it to null for training.lr"
        )
    if config.value_clip is not None and not config.value_clip > 0:
        yield f"critic.value_clip={config.value_clip} must be positive, or null to switch it off"
