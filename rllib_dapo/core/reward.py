"""Reward shaping (paper, Section 3.4)."""

from __future__ import annotations


def soft_overlong_punishment(
    response_tokens: int, *, max_response_tokens: int, buffer_tokens: int, penalty: float = 1.0
) -> float:
    r"""Length-aware punishment of Eq. 13, to be added to the correctness reward.

    `0` up to `L_max - L_cache`, then linear down to `-penalty` at `L_max`, and `-penalty` beyond:
    `penalty * max(-1, min(0, ((L_max - L_cache) - L) / L_cache))`.

    Args:
        response_tokens: `L`, the response's length in sampled tokens.
        max_response_tokens: `L_max`, the hard limit on the response, in tokens.
        buffer_tokens: `L_cache`, the width of the soft zone, in tokens; 0 leaves only the step beyond `L_max`.
        penalty: Factor on the whole term, in units of reward.

    Returns:
        The (non-positive) term to add to the reward.
    """
    excess = response_tokens - (max_response_tokens - buffer_tokens)
    if excess <= 0:
        return 0.0
    if buffer_tokens == 0:
        return -penalty
    return -penalty * min(1.0, excess / buffer_tokens)
