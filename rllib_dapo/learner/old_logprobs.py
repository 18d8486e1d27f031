"""What is fixed before the first optimizer step of an update: everything computed under the old policy.

The steps change the policy, so its log-probabilities, entropies and values, what is derived from
them (advantages, token masks), and the reference's log-probabilities are computed for all
mini-batches first. Each is computed only where something needs it. Figures that compare tokens of
different micro-batches are gathered from all Learners, so that they do not depend on how a
mini-batch is cut.
"""

from __future__ import annotations

import pkgutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rllib_dapo.core import (
    entropy_threshold,
    generalized_advantages,
    group_advantages,
    high_entropy_mask,
    kl_estimates,
    terminal_rewards,
    whiten,
)
from rllib_dapo.learner.collectives import gather
from rllib_dapo.learner.training_data import MicroBatch, MicroBatches

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

Forward = Callable[[MicroBatch], dict[str, Tensor]]
TokenMask = Callable[..., Tensor]


@torch.no_grad()
def prepare(
    minibatches: Sequence[MicroBatches],
    config: DAPOConfig,
    *,
    forward: Forward,
    reference: Callable[[MicroBatch], Tensor],
) -> None:
    """Adds to every micro-batch what the objective needs of the old policy.

    Args:
        minibatches: All of one update, in order; their micro-batches are added to.
        config: The algorithm's configuration.
        forward: Outputs of the policy as it is now, `[B, T]` each; see `CausalLMModule`.
        reference: Log-probabilities under the frozen reference.
    """
    score_all = needs_scores(config)
    for minibatch in minibatches:
        for batch in minibatch.batches:
            _fix_old_logprobs(
                batch, config, is_first=minibatch.is_first, forward=forward, score_all=score_all
            )
            if config.needs_reference:
                batch["ref_logprobs"] = reference(batch)
    everything = [batch for minibatch in minibatches for batch in minibatch.batches]
    if config.has_critic:
        _estimate_advantages(everything, config)
    elif _kl_in_reward(config):
        _compare_within_groups(everything, config)
    if config.entropy_mask_fraction is not None or config.token_mask is not None:
        for minibatch in minibatches:
            _mask_tokens(minibatch.batches, config)


def needs_scores(config: DAPOConfig) -> bool:
    """Whether every mini-batch has to be scored before the first step, also the first one."""
    masks = config.entropy_mask_fraction is not None or config.token_mask is not None
    return masks or config.has_critic or _kl_in_reward(config)


def _kl_in_reward(config: DAPOConfig) -> bool:
    return config.needs_reference and config.kl_placement == "reward"


def _fix_old_logprobs(
    batch: MicroBatch, config: DAPOConfig, *, is_first: bool, forward: Forward, score_all: bool
) -> None:
    """The ratio's denominator: recomputed, or what the engine reported. One ratio never mixes the two.

    The first mini-batch is trained while the policy is still the old one: its own forward pass
    gives the same.
    """
    from_trainer = config.old_logprobs == "trainer"
    if score_all or (from_trainer and not is_first):
        scores = forward(batch)
        batch["policy_logprobs"] = scores["logprobs"]
        batch["old_entropy"] = scores["entropy"]
        if "values" in scores:
            batch["old_values"] = scores["values"]
        if from_trainer:
            batch["old_logprobs"] = scores["logprobs"]
    if not from_trainer:
        batch["old_logprobs"] = batch["sampler_logprobs"]


def _kl_penalty(batch: MicroBatch, config: DAPOConfig) -> Tensor:
    """`[B, T]` KL estimates under the old policy, times their coefficient."""
    kl = kl_estimates(
        batch["policy_logprobs"],
        batch["ref_logprobs"],
        batch["mask"],
        estimator=config.kl_estimator,
    )
    return config.kl_coefficient * kl


def _compare_within_groups(batches: Sequence[MicroBatch], config: DAPOConfig) -> None:
    """Group advantages from rewards that the KL to the reference has been taken off."""
    mine = []
    for batch in batches:
        batch["rewards"] = batch["rewards"] - _kl_penalty(batch, config).sum(-1)
        mine += list(
            zip(
                batch["groups"].tolist(),
                batch["indices"].tolist(),
                batch["rewards"].tolist(),
                strict=True,
            )
        )
    groups: defaultdict[int, dict[int, float]] = defaultdict(dict)
    for group, index, reward in (row for rows in gather(mine) for row in rows):
        groups[group][index] = reward
    advantages: dict[tuple[int, int], float] = {}
    for group, rewards in groups.items():
        order = sorted(rewards)
        values = group_advantages(
            torch.tensor([rewards[i] for i in order], dtype=torch.float64),
            normalize_by_std=config.normalize_advantages_by_std,
            leave_one_out=config.advantage_estimator == "leave_one_out",
        )
        advantages |= {(group, i): float(v) for i, v in zip(order, values, strict=True)}
    for batch in batches:
        keys = zip(batch["groups"].tolist(), batch["indices"].tolist(), strict=True)
        batch["advantages"] = batch["advantages"].new_tensor([advantages[key] for key in keys])


def _estimate_advantages(batches: Sequence[MicroBatch], config: DAPOConfig) -> None:
    """PPO: generalized advantages `[B, T]` of the old value function, and the returns it is to learn."""
    for batch in batches:
        rewards = terminal_rewards(batch["rewards"], batch["mask"]).to(batch["old_values"].dtype)
        if _kl_in_reward(config):
            rewards = rewards - _kl_penalty(batch, config)
        batch["advantages"], batch["returns"] = generalized_advantages(
            rewards,
            batch["old_values"],
            batch["mask"],
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
        )
    if config.normalize_advantages_by_std:
        mean, std = _mean_and_std([batch["advantages"][batch["mask"]] for batch in batches])
        for batch in batches:
            batch["advantages"] = whiten(batch["advantages"], batch["mask"], mean=mean, std=std)


def _mean_and_std(parts: Sequence[Tensor]) -> tuple[float, float]:
    """Over all tokens of all Learners."""
    values = torch.cat([part.double() for part in parts])
    sums = (len(values), float(values.sum()), float(values.square().sum()))
    count, total, squares = (sum(column) for column in zip(*gather(sums), strict=True))
    mean = total / max(count, 1)
    return mean, max(squares / max(count, 1) - mean**2, 0.0) ** 0.5


def _mask_tokens(batches: Sequence[MicroBatch], config: DAPOConfig) -> None:
    """`token_mask` `[B, T]`: which tokens of one mini-batch may have a gradient."""
    for batch in batches:
        batch["token_mask"] = batch["mask"]
    if config.entropy_mask_fraction is not None:
        mine = torch.cat([batch["old_entropy"][batch["mask"]].cpu() for batch in batches])
        threshold = entropy_threshold(
            torch.cat(gather(mine)), keep_fraction=config.entropy_mask_fraction
        )
        for batch in batches:
            kept = high_entropy_mask(
                batch["old_entropy"], batch["mask"], threshold.to(batch["mask"].device)
            )
            batch["token_mask"] = batch["token_mask"] & kept
    if config.token_mask is not None:
        choose = resolve_token_mask(config.token_mask)
        for batch in batches:
            chosen = choose(
                response_ids=batch["response_ids"], entropy=batch["old_entropy"], mask=batch["mask"]
            )
            if chosen.shape != batch["mask"].shape or chosen.dtype != torch.bool:
                raise ValueError(
                    f"training.token_mask={config.token_mask!r} gave {chosen.dtype} {tuple(chosen.shape)}: it must "
                    f"give torch.bool {tuple(batch['mask'].shape)}"
                )
            batch["token_mask"] = batch["token_mask"] & chosen


def resolve_token_mask(setting: str | TokenMask) -> TokenMask:
    """The function itself, or the one that `package.module:function` names."""
    return pkgutil.resolve_name(setting) if isinstance(setting, str) else setting
