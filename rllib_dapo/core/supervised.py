"""The loss of supervised fine-tuning, as an objective of `core.policy_loss`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def negative_log_likelihood(*, logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """`-log π`: the loss of each token that is to be learnt; no ratio and no advantage.

    It is the policy gradient of an advantage of 1 on what the policy is on itself. With the weights
    of `token_mean` the loss of a mini-batch is the mean over all its tokens with loss.

    Args:
        logprobs: `[B, T]` log-probabilities `log π`, with gradient.

    Returns:
        `[B, T]` losses, in nats.

    Source: maximum likelihood.
    """
    return -logprobs
