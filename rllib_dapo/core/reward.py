"""Rewards and their shaping (paper, Eq. 7 and Section 3.4)."""

from __future__ import annotations


def correctness_reward(is_correct: bool) -> float:
    """The rule-based reward of Eq. 7: 1 where the answer is equivalent to the ground truth, else -1.

    Args:
        is_correct: The verdict. Where there is none the reward is *missing* (NaN), which is neither
            of the two.
    """
    return 1.0 if is_correct else -1.0


def composite_reward(
    *,
    correctness: float,
    step_quality: float,
    length_penalty: float,
    weights: tuple[float, float, float] = (1.0, 0.5, 0.3),
) -> float:
    """A weighted sum of three verdicts: `w_0 correctness + w_1 step_quality - w_2 length_penalty`.

    Args:
        correctness: Of the final answer, for instance `correctness_reward`.
        step_quality: Of the way to it, as heuristics or a reward model see it.
        length_penalty: Non-negative; it is subtracted.
        weights: `(w_0, w_1, w_2)`.
    """
    return weights[0] * correctness + weights[1] * step_quality - weights[2] * length_penalty


def soft_overlong_punishment(
    response_tokens: int, *, max_response_tokens: int, buffer_tokens: int, penalty: float = 1.0
) -> float:
    r"""Length-aware punishment of Eq. 13, to be added to the correctness reward.

    `0` up to `L_max - L_cache`, then linear down to `-penalty` at `L_max`, and `-penalty` beyond:
    `penalty * max(-1, min(0, ((L_max - L_cache) - L) / L_cache))`.

    Args:
        response_tokens: `L`, the response's length in sampled tokens.
        max_response_tokens: `L_max`, the hard limit on the response, in tokens.
        buffer_tokens: `L_cache`, the width of the soft zone, in tokens; 0 leaves only the step
            beyond `L_max`.
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
