"""Log-probabilities of chosen tokens and entropies, from logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rllib_dapo.core.sampling_set import EVERY_TOKEN, SamplingSet

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Replaces a logit of -inf (a word that the model may not use). The probability is 0 either way, but
# 0 times this number is 0, while 0 times -inf is NaN.
LOWEST_LOGIT = -1e30


class _LogprobAndEntropy(torch.autograd.Function):
    """`log_softmax`, `gather` and entropy in few passes over `[N, V]`.

    For the backward pass it keeps only the logits as given (often bfloat16) and two numbers per
    row. Composed of torch's own functions, autograd would keep several copies of `[N, V]`.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        with full_precision(logits):
            shifted = scaled_logits(logits, temperature, copy=True)
            shift = shifted.amax(-1, keepdim=True)
            chosen = shifted.sub_(shift).gather(-1, targets[:, None]).squeeze(-1)

            exponentials = shifted.exp()
            total = exponentials.sum(-1)
            logprobs = chosen - total.log()
            entropy = total.log() - torch.einsum("nv,nv->n", exponentials, shifted) / total

        ctx.save_for_backward(logits, targets, shift.squeeze(-1) + total.log(), entropy)
        ctx.temperature = temperature
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None, None]:
        logits, targets, log_z, entropy = ctx.saved_tensors
        incoming = incoming_gradients(gradients, like=log_z, temperature=ctx.temperature)
        if incoming is None:
            return None, None, None

        of_logprob, of_entropy = incoming
        log_p = scaled_logits(logits, ctx.temperature, copy=True).sub_(log_z[:, None])
        result = softmax_gradient(log_p, entropy, of_logprob, of_entropy)
        result.scatter_add_(-1, targets[:, None], of_logprob[:, None])
        return result.to(logits.dtype), None, None


def logprob_and_entropy(
    logits: Float[Tensor, "N V"],
    targets: Int[Tensor, "N"],
    *,
    temperature: float,
    sampling_set: SamplingSet = EVERY_TOKEN,
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """`log p_y` and `H = -Σ_j p_j log p_j`, with `p = softmax(logits / temperature)`.

    Where only the tokens of a set `K` are sampled, `p` is renormalised over it:
    `log p_y = x_y - log Σ_{j in K} exp x_j` with `x = logits / temperature`. Temperature and set
    are the sampler's, because a ratio between probabilities of different distributions means
    nothing.

    Args:
        logits: `[N, V]` logits of any floating type; computed in float32, or float64 if given so.
        targets: `[N]` token ids `y`.
        temperature: Sampling temperature, positive.
        sampling_set: The rule for `K`, to which `y` always belongs; by default every token does.

    Returns:
        `[N]` log-probabilities and `[N]` entropies, both in nats and with gradient. One that the
        loss does not use costs nothing in the backward pass.

    Source: the probabilities of DAPO, Eq. 6 (arXiv 2503.14476).
    """
    restricted = sampling_set.restrict(logits, targets, temperature=temperature)
    logprobs, entropy = _LogprobAndEntropy.apply(restricted, targets, temperature)  # type: ignore[no-untyped-call]
    return logprobs, entropy


def full_precision(tensor: Tensor) -> torch.autocast:
    """Switches autocast off, which would compute the inner product of the entropy in bfloat16."""
    return torch.autocast(tensor.device.type, enabled=False)


def scaled_logits(
    logits: Float[Tensor, "N V"], temperature: float, *, copy: bool
) -> Float[Tensor, "N V"]:
    """`logits / temperature`, in at least float32 and finite.

    Args:
        logits: `[N, V]` logits of any floating type.
        temperature: Sampling temperature, positive.
        copy: Whether to leave `logits` as they are; without it they are overwritten if their type
            allows it.

    Source: the softmax of `logprob_and_entropy`.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(dtype, copy=copy).div_(temperature).clamp_(min=LOWEST_LOGIT)


def incoming_gradients(
    gradients: tuple[Float[Tensor, "N"] | None, ...],
    *,
    like: Float[Tensor, "N"],
    temperature: float,
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"] | None] | None:
    """`∂L/∂log p_y / temperature` and `∂L/∂H / temperature`.

    Args:
        gradients: `[N]` of the log-probabilities and `[N]` of the entropies, None where autograd
            brings none.
        like: `[N]` tensor whose type, device and size a missing gradient of zeros takes.
        temperature: Sampling temperature, by which the chain rule divides.

    Returns:
        `[N]` and `[N]` gradients, the second None if the loss does not use the entropy; None in
        place of both if it uses neither.

    Source: chain rule through `scaled_logits`.
    """
    of_logprob, of_entropy = gradients
    if of_entropy is not None:
        of_entropy = of_entropy / temperature
    elif of_logprob is None:
        return None
    return torch.zeros_like(like) if of_logprob is None else of_logprob / temperature, of_entropy


def softmax_gradient(
    log_p: Float[Tensor, "N V"],
    entropy: Float[Tensor, "N"],
    of_logprob: Float[Tensor, "N"],
    of_entropy: Float[Tensor, "N"] | None,
) -> Float[Tensor, "N V"]:
    """`∂L/∂x_j = -p_j ∂L/∂log p_y - p_j (log p_j + H) ∂L/∂H`, for all `j` but the target.

    The target `y` has one more summand, `∂L/∂log p_y`, which the caller adds.

    Args:
        log_p: `[N, V]` log-probabilities; they are overwritten.
        entropy: `[N]` entropies `H` in nats.
        of_logprob: `[N]` gradient with respect to the log-probability of the target.
        of_entropy: `[N]` gradient with respect to the entropy, or None.

    Returns:
        `[N, V]` gradient with respect to the scaled logits `x`.

    Source: `∂log p_y/∂x_j = [j = y] - p_j` and `∂H/∂x_j = -p_j (log p_j + H)`.
    """
    if of_entropy is None:
        return log_p.exp_().mul_(-of_logprob[:, None])

    constant = of_logprob + of_entropy * entropy
    probabilities = log_p.exp()
    return log_p.mul_(-of_entropy[:, None]).sub_(constant[:, None]).mul_(probabilities)
