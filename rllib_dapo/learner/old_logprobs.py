"""What is computed under the old policy, before the first optimizer step of an update.

The steps change the policy. So its log-probabilities, entropies and values, what is derived from
them (advantages, token masks), and the reference's log-probabilities are computed for all
mini-batches first. Each is computed only where something needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rllib_dapo.learner.advantages_from_tokens import (
    critic_advantages,
    group_advantages_less_kl,
    is_kl_in_reward,
)
from rllib_dapo.learner.planned_batch import MicroBatch, PlannedBatch, made_ahead
from rllib_dapo.learner.token_selection import select_tokens, selects_tokens
from rllib_dapo.learner.training_data import MicroBatches

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.config.objective_sections import OldLogprobs

Forward = Callable[[MicroBatch], dict[str, Tensor]]


@torch.no_grad()
def prepare_minibatches(
    minibatches: Sequence[MicroBatches],
    config: DAPOConfig,
    *,
    forward: Forward,
    reference: Callable[[MicroBatch], Tensor],
) -> None:
    """Adds to every micro-batch what the objective needs of the old policy.

    Of what is added, only numbers of tokens with loss are held; see `PlannedBatch`.

    | added | shape | where |
    | --- | --- | --- |
    | `policy_logprobs`, `old_entropy` | `[B, T]` | mini-batches that are scored |
    | `old_values` | `[B, T]` | the same, with a value head |
    | `old_logprobs` | `[B, T]` | all but a first mini-batch that is not scored |
    | `ref_logprobs` | `[B, T]` | with a reference model |
    | `advantages`, `returns` | `[B, T]` | with a critic |
    | `rewards`, `advantages` | `[B]` | with the KL divergence in the reward |
    | `token_mask` | `[B, T]` | with a token mask |

    Args:
        minibatches: All mini-batches of one update, in order.
        config: The algorithm's configuration.
        forward: Outputs of the policy as it is now, `[B, T]` each; see `CausalLMModule`.
        reference: Log-probabilities `[B, T]` under the frozen reference.
    """
    score_all = needs_scores(config)
    for minibatch in minibatches:
        is_scored = score_all or (config.old_logprobs == "trainer" and not minibatch.is_first)
        if is_scored or config.needs_reference:
            made = made_ahead(minibatch.batches, PlannedBatch.tensors)
            for batch, tensors in zip(minibatch.batches, made, strict=True):
                if is_scored:
                    _add_scores(batch, forward(tensors))
                if config.needs_reference:
                    batch["ref_logprobs"] = reference(tensors)

        for batch in minibatch.batches:
            _name_denominator(batch, config.old_logprobs, is_scored=is_scored)

    everything = [batch for minibatch in minibatches for batch in minibatch.batches]
    if config.has_critic:
        critic_advantages(everything, config)
    elif is_kl_in_reward(config):
        group_advantages_less_kl(everything, config)

    if selects_tokens(config):
        for minibatch in minibatches:
            select_tokens(minibatch.batches, config)


def needs_scores(config: DAPOConfig) -> bool:
    """Whether every mini-batch is scored before the first step, the first one included."""
    return selects_tokens(config) or config.has_critic or is_kl_in_reward(config)


def _add_scores(batch: PlannedBatch, scores: dict[str, Tensor]) -> None:
    batch["policy_logprobs"] = scores["logprobs"]
    batch["old_entropy"] = scores["entropy"]
    if "values" in scores:
        batch["old_values"] = scores["values"]


def _name_denominator(batch: PlannedBatch, source: OldLogprobs, *, is_scored: bool) -> None:
    """The ratio's denominator, recomputed or as the engine reported it: the same in all of a run.

    The first mini-batch is trained while the policy is still the old one: its own forward pass
    gives the same, so it has no denominator of its own unless something else needs its scores.
    """
    if source == "sampler":
        batch.same_as("old_logprobs", "sampler_logprobs")
    elif is_scored:
        batch.same_as("old_logprobs", "policy_logprobs")
