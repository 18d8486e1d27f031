"""Log-probabilities of chosen tokens and entropies, from logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# In place of a logit of -inf (a word the model may not use): the probability is 0 either way, but 0
# times it, or times a multiple of it, is 0 and not NaN.
LOWEST_LOGIT = -1e30


class _LogprobAndEntropy(torch.autograd.Function):
    """`log_softmax`, `gather` and entropy in few passes over `[N, V]`, none of which autograd has to keep.

    Only the logits as given (often bfloat16) and two numbers per row are kept for the backward
    pass; composed of torch's own functions, several copies of `[N, V]` would be.
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
    logits: Tensor, targets: Tensor, *, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of each distribution `softmax(logits / temperature)`.

    The division is the sampler's: a ratio between probabilities at different temperatures means
    nothing.

    Args:
        logits: `[N, V]`, any floating type; computed in float32 (or float64 if given so).
        targets: `[N]` token ids.
        temperature: The sampling temperature, positive.

    Returns:
        `[N]` log-probabilities and `[N]` entropies, both in nats and with gradient; one that the
        loss makes no use of costs nothing in the backward pass.
    """
    logprobs, entropy = _LogprobAndEntropy.apply(logits, targets, temperature)  # type: ignore[no-untyped-call]
    return logprobs, entropy


def full_precision(tensor: Tensor) -> torch.autocast:
    """Switches autocast off: it would compute the entropy's inner product in bfloat16."""
    return torch.autocast(tensor.device.type, enabled=False)


def scaled_logits(logits: Tensor, temperature: float, *, copy: bool) -> Tensor:
    """`logits / temperature` in at least float32 and finite: a copy, or in place where the type allows it."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(dtype, copy=copy).div_(temperature).clamp_(min=LOWEST_LOGIT)


def incoming_gradients(
    gradients: tuple[Tensor | None, ...], *, like: Tensor, temperature: float
) -> tuple[Tensor, Tensor | None] | None:
    """Those of log-probability and entropy, `[N]`, by the scaled logits' temperature; None where neither flows."""
    of_logprob, of_entropy = gradients
    if of_entropy is not None:
        of_entropy = of_entropy / temperature
    elif of_logprob is None:
        return None
    return torch.zeros_like(like) if of_logprob is None else of_logprob / temperature, of_entropy


def softmax_gradient(
    log_p: Tensor, entropy: Tensor, of_logprob: Tensor, of_entropy: Tensor | None
) -> Tensor:
    """The gradient by the scaled logits, without the target's own part.

    The derivative by `x_j` of the log-probability of target `t` is `[j = t] - p_j`, that of the
    entropy `H` is `-p_j (log p_j + H)`.

    Args:
        log_p: `[N, V]` log-probabilities, overwritten.
        entropy: `[N]`.
        of_logprob: `[N]` gradient by the target's log-probability.
        of_entropy: `[N]` gradient by the entropy, or None.
    """
    if of_entropy is None:
        return log_p.exp_().mul_(-of_logprob[:, None])
    constant = of_logprob + of_entropy * entropy
    probabilities = log_p.exp()
    return log_p.mul_(-of_entropy[:, None]).sub_(constant[:, None]).mul_(probabilities)
