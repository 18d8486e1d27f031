"""Rewards and their shaping (DAPO, Eq. 7 and Section 3.4)."""

from __future__ import annotations


def correctness_reward(is_correct: bool) -> float:
    """`R = 1` if the answer is equivalent to the ground truth, else `-1`.

    Args:
        is_correct: The verdict. Without a verdict the reward is *missing* (NaN), which is neither
            of the two.

    Source: DAPO, Eq. 7 (arXiv 2503.14476).
    """
    return 1.0 if is_correct else -1.0


def composite_reward(
    *,
    correctness: float,
    step_quality: float,
    length_penalty: float,
    weights: tuple[float, float, float] = (1.0, 0.5, 0.3),
) -> float:
    """`R = w_0 correctness + w_1 step_quality - w_2 length_penalty`.

    Args:
        correctness: Score of the final answer, for instance `correctness_reward`.
        step_quality: Score of the steps that lead to it, by heuristics or a reward model.
        length_penalty: Penalty for length, non-negative.
        weights: `(w_0, w_1, w_2)`.

    Source: not part of DAPO; for environments that grade more than the answer.
    """
    return weights[0] * correctness + weights[1] * step_quality - weights[2] * length_penalty


def soft_overlong_punishment(
    response_tokens: int, *, max_response_tokens: int, buffer_tokens: int, penalty: float = 1.0
) -> float:
    """`R_length = penalty * max(-1, min(0, ((L_max - L_cache) - L) / L_cache))`.

    That is 0 up to `L_max - L_cache`, falls linearly to `-penalty` at `L_max`, and stays there.

    Args:
        response_tokens: Length `L` of the response, in sampled tokens.
        max_response_tokens: Hard limit `L_max` on the response, in tokens.
        buffer_tokens: Width `L_cache` of the soft zone, in tokens; 0 leaves a step beyond `L_max`.
        penalty: Factor on the whole term, in units of reward.

    Returns:
        The term to add to the reward, zero or negative.

    Source: DAPO, Eq. 13 (arXiv 2503.14476).
    """
    excess = response_tokens - (max_response_tokens - buffer_tokens)
    if excess <= 0:
        return 0.0
    if buffer_tokens == 0:
        return -penalty
    return -penalty * min(1.0, excess / buffer_tokens)
