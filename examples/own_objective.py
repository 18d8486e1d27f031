"""An objective and an advantage estimator of one's own, and a run file that names them.

    rllib-dapo train own_objective.yaml                      # in this folder
    python -m rllib_dapo train own_objective.yaml --set training.objective=sapo

`docs/algorithm.md` says what such functions are given, what they give, and what is checked.
"""

from typing import Any

from torch import Tensor


def penalized_ratio(
    *, ratio: Tensor, advantages: Tensor, epsilon_high: float
) -> tuple[Tensor, dict[str, Any]]:
    """`-(r A - abs(A) (r - 1)² / (2 ε))`: a quadratic penalty in place of a clip.

    Its gradient is zero at `r = 1 + ε` for a positive and at `r = 1 - ε` for a negative advantage,
    and beyond that it points back. Source: Simple Policy Optimization (arXiv 2401.16025).
    """
    penalty = advantages.abs() * (ratio - 1).square() / (2 * epsilon_high)
    return penalty - ratio * advantages, {"penalty": penalty}


def above_the_median(*, rewards: Tensor) -> Tensor:
    """`R_i - median(R)` of each group `[N, G]`; a missing reward is NaN."""
    return rewards - rewards.nanmedian(dim=-1, keepdim=True).values
