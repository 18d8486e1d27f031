"""Which tokens may have a gradient: the most uncertain ones, or those that a function picks."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rllib_dapo.core import entropy_threshold, high_entropy_mask
from rllib_dapo.learner.collectives import gather
from rllib_dapo.learner.planned_batch import PlannedBatch

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

TokenMask = Callable[..., Tensor]


def selects_tokens(config: DAPOConfig) -> bool:
    """Whether some response tokens are left out of the loss by a mask."""
    return config.entropy_mask_fraction is not None or config.token_mask is not None


def select_tokens(batches: Sequence[PlannedBatch], config: DAPOConfig) -> None:
    """Adds `token_mask` `[B, T]`: which tokens of one mini-batch may have a gradient.

    Where there are both masks, a token must be in both.

    Args:
        batches: The micro-batches of one mini-batch on this Learner, with `old_entropy`.
        config: The algorithm's configuration.

    Raises:
        ValueError: If the user's function gives another shape or type than it must; one line.
    """
    for batch in batches:
        batch["token_mask"] = batch["mask"]
    if config.entropy_mask_fraction is not None:
        _keep_high_entropy(batches, config.entropy_mask_fraction)
    if config.token_mask is not None:
        _keep_chosen(batches, config.token_mask)


def resolve_token_mask(setting: str | TokenMask) -> TokenMask:
    """The function itself, or the one that `package.module:function` names."""
    return pkgutil.resolve_name(setting) if isinstance(setting, str) else setting


def _keep_high_entropy(batches: Sequence[PlannedBatch], fraction: float) -> None:
    """Keeps the share of tokens with the highest entropy (arXiv 2506.01939).

    The threshold is taken over the tokens of all Learners, so that it does not depend on how the
    mini-batch is cut.
    """
    mine = torch.cat([batch["old_entropy"][batch["mask"]].cpu() for batch in batches])
    threshold = entropy_threshold(torch.cat(gather(mine)), keep_fraction=fraction)

    for batch in batches:
        kept = high_entropy_mask(
            batch["old_entropy"], batch["mask"], threshold.to(batch["mask"].device)
        )
        batch["token_mask"] = batch["token_mask"] & kept


def _keep_chosen(batches: Sequence[PlannedBatch], setting: str | TokenMask) -> None:
    """Keeps the tokens that the function of `training.token_mask` picks."""
    choose = resolve_token_mask(setting)
    for batch in batches:
        mask = batch["mask"]
        ids = batch["response_ids"].long()
        chosen = choose(response_ids=ids, entropy=batch["old_entropy"], mask=mask)
        if chosen.shape != mask.shape or chosen.dtype != torch.bool:
            raise ValueError(
                f"training.token_mask={setting!r} gave {chosen.dtype} {tuple(chosen.shape)}: "
                f"it must give torch.bool {tuple(mask.shape)}"
            )
        batch["token_mask"] = batch["token_mask"] & chosen
