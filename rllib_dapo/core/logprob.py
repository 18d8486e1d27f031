"""Log-probabilities and entropies of chosen tokens without holding all logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def logprob_and_entropy(logits: Tensor, targets: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of each distribution `softmax(logits / temperature)`.

    The division is the sampler's: a ratio between probabilities at different temperatures means nothing.

    Args:
        logits: `[N, V]`, any floating type; computed in float32 (or float64 if given so).
        targets: `[N]` token ids.
        temperature: The sampling temperature, positive.

    Returns:
        `[N]` log-probabilities in nats (with gradient) and `[N]` entropies in nats (without).
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    log_z = logits.logsumexp(-1)
    logprobs = logits.gather(-1, targets[:, None]).squeeze(-1) - log_z
    with torch.no_grad():
        probabilities = (logits - log_z[:, None]).exp()
        # A logit of -inf (a word the model may not use) has probability 0 and adds nothing: 0 * -inf is left out.
        entropy = log_z - (probabilities * logits).nansum(-1)
    return logprobs, entropy


def chunked_logprobs(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    targets: Tensor,
    *,
    temperature: float,
    chunk_tokens: int,
) -> tuple[Tensor, Tensor]:
    """`logprob_and_entropy` of `head(hidden)`, at most `chunk_tokens` rows of logits at a time.

    With more than one chunk, each is recomputed in the backward pass, so `[N, V]` is held in neither direction.

    Args:
        hidden: `[N, H]` last hidden states of the positions that predict the targets.
        head: The output projection, `[n, H] -> [n, V]`.
        targets: `[N]` token ids.
        temperature: The sampling temperature.
        chunk_tokens: Rows per chunk.

    Returns:
        `[N]` log-probabilities and `[N]` entropies, as `logprob_and_entropy`.
    """

    def one_chunk(rows: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        return logprob_and_entropy(head(rows), ids, temperature=temperature)

    if len(targets) <= chunk_tokens:
        return one_chunk(hidden, targets)
    pairs = zip(hidden.split(chunk_tokens), targets.split(chunk_tokens), strict=True)
    if torch.is_grad_enabled():
        results = [checkpoint(one_chunk, rows, ids, use_reentrant=False) for rows, ids in pairs]
    else:
        results = [one_chunk(rows, ids) for rows, ids in pairs]
    logprobs, entropies = zip(*results, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)
