"""The first training steps of a critic, in which it learns alone and the policy stays as it is.

A value head of zeros knows nothing: until it has learnt, advantages are no better than plain
returns. With `critic.warmup` it learns first, from what the policy that training begins with
samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from rllib_dapo.learner.planned_batch import MicroBatch

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig


def is_critic_alone(config: DAPOConfig, progress: float) -> bool:
    """Whether an optimizer step belongs to the critic's warm-up.

    Args:
        config: The algorithm's configuration.
        progress: Number of training steps done, including the optimizer step about to be taken; see
            `learner.schedule`.
    """
    return config.has_critic and progress <= config.critic_warmup


def critics_outputs(
    batch: MicroBatch,
    *,
    forward: Callable[[MicroBatch], dict[str, Tensor]],
    value_head: nn.Module,
    zeros_elsewhere: bool,
) -> dict[str, Tensor]:
    """The module's outputs, of which only the values have a gradient, and only the head's own.

    A loss of them, whatever it is made of, trains the critic alone, and the figures of the policy
    are reported as ever.

    Args:
        batch: Micro-batch of `core.collate`.
        forward: Gives `logprobs`, `entropy` and `values`, `[B, T]`, of a micro-batch.
        value_head: The head, `[n, H] -> [n, 1]`, that `forward` calls.
        zeros_elsewhere: Whether a backward pass is to give all other parameters gradients of zeros,
            for those who wait for them; it takes as long as ever then. Else they get none.
    """

    def detach(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(features.detach() for features in inputs)

    # First of all hooks: ZeRO-3's own count the gradients that will pass.
    hook = value_head.register_forward_pre_hook(detach, prepend=True)
    try:
        outputs = forward(batch)
    finally:
        hook.remove()

    trained = {name: output.detach() for name, output in outputs.items()}
    trained["values"] = outputs["values"]
    if zeros_elsewhere:
        trained["values"] = trained["values"] + 0.0 * outputs["logprobs"]
    return trained
