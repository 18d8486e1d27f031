"""Checks of what the objective is made of: clipping, advantages, KL, importance sampling, value model, schedule."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rllib_dapo.findings import at_least, two_numbers, within

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

_FUNCTION_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def check_objective(config: DAPOConfig) -> Iterator[str]:
    """Findings on the sections `training` (as far as the loss goes), `kl`, `importance_sampling` and `critic`.

    Args:
        config: With values of the right kinds, search spaces resolved.

    Yields:
        One line for each finding.
    """
    yield from _check_clipping(config)
    yield from _check_token_choice(config)
    yield from _check_schedule(config)
    yield from _check_kl(config)
    yield from _check_importance_sampling(config)
    yield from _check_advantages(config)


def idle_clip_warning(config: DAPOConfig) -> str | None:
    """What to tell a user whose clip bounds cannot do anything, or None where they can.

    Args:
        config: Valid, without search spaces.
    """
    if not config.clip_is_idle:
        return None
    responses = config.train_batch_responses
    return (
        f"training.minibatch_size={config.minibatch_size} makes one update of the {responses} responses of a rollout, "
        "and old_logprobs=trainer: the ratio is 1, so epsilon_low, epsilon_high and dual_clip do nothing; for more "
        f"updates lower minibatch_size, to {max(1, responses // 4)} for example"
    )


def _check_clipping(config: DAPOConfig) -> Iterator[str]:
    yield from within(
        "training.epsilon_low",
        config.epsilon_low,
        "(0, 1)",
        "ratios are clipped to 1 - epsilon_low",
    )
    if config.epsilon_high < config.epsilon_low:
        yield (
            f"training.epsilon_high={config.epsilon_high} must not be under epsilon_low={config.epsilon_low}: "
            "raise epsilon_high, or lower epsilon_low"
        )
    if config.dual_clip is not None and not config.dual_clip > 1:
        yield f"training.dual_clip={config.dual_clip} must be over 1, or null to switch it off"


def _check_token_choice(config: DAPOConfig) -> Iterator[str]:
    fraction, mask = config.entropy_mask_fraction, config.token_mask
    if fraction is not None:
        yield from within(
            "training.entropy_mask_fraction",
            fraction,
            "(0, 1]",
            "the share of tokens that is trained",
        )
    if isinstance(mask, str):
        if not _FUNCTION_NAME.fullmatch(mask):
            yield f"training.token_mask={mask!r} must be written package.module:function, or null to switch it off"
    elif mask is not None and not callable(mask):
        yield f"training.token_mask={mask!r} must be a function, its name package.module:function, or null"


def _check_schedule(config: DAPOConfig) -> Iterator[str]:
    yield from within(
        "training.lr_end_fraction",
        config.lr_end_fraction,
        "[0, 1]",
        "the share of lr left at the end",
    )
    schedule, updates = config.lr_schedule, config.lr_decay_updates
    if schedule == "constant" and updates is not None:
        yield (
            f"training.lr_decay_updates={updates} does nothing with lr_schedule=constant: leave it out, or set "
            "lr_schedule to linear or cosine"
        )
    if schedule in ("linear", "cosine"):
        if updates is None:
            yield (
                f"training.lr_decay_updates=None must be given with lr_schedule={schedule}: the optimizer steps from "
                "the end of the warm-up to the end of the decay"
            )
        else:
            yield from at_least("training.lr_decay_updates", updates, 1)


def _check_kl(config: DAPOConfig) -> Iterator[str]:
    yield from at_least("kl.coefficient", config.kl_coefficient, 0)
    if config.needs_reference and config.kl_estimator == "k1" and config.kl_placement == "loss":
        yield (
            "kl.estimator='k1' has no effect in the loss, where the mean of its gradient is zero: use k2 or k3, or "
            "kl.placement=reward"
        )
    in_reward = config.needs_reference and config.kl_placement == "reward"
    if (
        in_reward
        and config.overlong_filtering
        and config.truncated_in_baseline
        and not config.has_critic
    ):
        yield (
            "overlong.filtering=True takes truncated responses out of what is trained, and with kl.placement=reward "
            "only what is trained is compared: set overlong.truncated_in_baseline to false"
        )


def _check_importance_sampling(config: DAPOConfig) -> Iterator[str]:
    cap, bounds, limit = (
        config.importance_cap,
        config.importance_sequence_bounds,
        config.start_gap_limit,
    )
    if cap is not None:
        yield from at_least(
            "importance_sampling.cap", cap, 1, "a smaller one would cut what needs no correction"
        )
    if bounds is not None and not (two_numbers(bounds) and 0 < bounds[0] < 1 < bounds[1]):
        yield (
            f"importance_sampling.sequence_bounds={bounds!r} must be two numbers, one between 0 and 1 and one over 1, "
            "such as [0.5, 2.0], or null to switch them off"
        )
    if limit is not None and not limit > 0:
        yield f"importance_sampling.start_gap_limit={limit} must be positive, or null to switch the guard off"
    if config.old_logprobs != "sampler":
        return
    correcting = {
        f"importance_sampling.cap={cap}": cap is not None,
        f"importance_sampling.sequence_bounds={bounds!r}": bounds is not None,
        "importance_sampling.on_start_gap='correct'": config.on_start_gap == "correct",
    }
    for setting in (setting for setting, is_on in correcting.items() if is_on):
        yield (
            f"{setting} contradicts training.old_logprobs=sampler, whose ratio already starts from the sampler: use "
            "old_logprobs=trainer, or leave it out"
        )


def _check_advantages(config: DAPOConfig) -> Iterator[str]:
    least, why = (
        (1, "") if config.has_critic else (2, "an advantage compares responses of one group")
    )
    yield from at_least("training.group_size", config.group_size, least, why)
    if config.has_critic and config.group_size == 1 and config.dynamic_sampling_enabled:
        yield (
            "dynamic_sampling.enabled=True with training.group_size=1 would drop every group, for all of its one "
            "response is right, or wrong: set enabled to false, or raise group_size"
        )
    yield from within("training.gamma", config.gamma, "[0, 1]")
    yield from within("critic.gae_lambda", config.gae_lambda, "[0, 1]")
    yield from at_least("critic.value_loss_coefficient", config.value_loss_coefficient, 0)
    if config.has_critic and config.value_loss_coefficient == 0:
        yield (
            f"critic.value_loss_coefficient={config.value_loss_coefficient} would never train the value model that "
            "training.advantage_estimator=gae asks for: raise it, or use another estimator"
        )
    if config.value_clip is not None and not config.value_clip > 0:
        yield f"critic.value_clip={config.value_clip} must be positive, or null to switch it off"
