"""Policy objectives by name: the loss of each token, which the house weighs and sums."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

ObjectiveName = Literal["clip", "cispo", "sapo"]
OBJECTIVE_NAMES: tuple[str, ...] = get_args(ObjectiveName)

# What an objective may name as its arguments: tensors `[B, T]`, and settings of `training`.
OBJECTIVE_TENSORS = ("logprobs", "old_logprobs", "ratio", "advantages", "mask")
OBJECTIVE_SETTINGS = ("epsilon_low", "epsilon_high", "dual_clip", "sapo_temperatures")

# Called with all of `OBJECTIVE_TENSORS` by name; gives losses `[B, T]`, or these and figures of
# tokens by name, each `[B, T]`.
TokenObjective = Callable[..., Any]


def clipped_losses(
    *,
    ratio: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    epsilon_low: float,
    epsilon_high: float,
    dual_clip: float | None,
) -> tuple[Float[Tensor, "B T"], dict[str, Bool[Tensor, "B T"]]]:
    """`-min(r A, clip(r, 1 - ε_low, 1 + ε_high) A)`, and for `A < 0` at most `-c A`.

    Args:
        ratio: `[B, T]` importance ratios `r`, with gradient.
        advantages: `[B, T]` advantages `A`.
        epsilon_low: Lower clip range, in (0, 1).
        epsilon_high: Upper clip range.
        dual_clip: Bound `c` of the dual clip, or None.

    Returns:
        `[B, T]` losses, and where a clip range stops the gradient.

    Source: DAPO, Eq. 8 and 10 (arXiv 2503.14476); the dual clip is from arXiv 1912.09729.
    """
    low, high = 1.0 - epsilon_low, 1.0 + epsilon_high
    losses = -torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)
    if dual_clip is not None:
        bounded = torch.minimum(losses, -dual_clip * advantages)
        losses = torch.where(advantages < 0, bounded, losses)

    return losses, {
        "clip_low_count": (advantages < 0) & (ratio < low),
        "clip_high_count": (advantages > 0) & (ratio > high),
    }


def cispo_losses(
    *,
    logprobs: Float[Tensor, "B T"],
    ratio: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    epsilon_low: float,
    epsilon_high: float,
) -> tuple[Float[Tensor, "B T"], dict[str, Bool[Tensor, "B T"]]]:
    """`-sg(clip(r, 1 - ε_low, 1 + ε_high)) A log π`: the weight is clipped, not the gradient.

    `sg` stops the gradient, so every token keeps one, of a bounded size. `ε_low = 1` is no lower
    bound, as in the paper's experiments.

    Args:
        logprobs: `[B, T]` log-probabilities `log π`, with gradient.
        ratio: `[B, T]` importance ratios `r`.
        advantages: `[B, T]` advantages `A`.
        epsilon_low: Lower range of the weight, in (0, 1].
        epsilon_high: Upper range of the weight.

    Returns:
        `[B, T]` losses, and where the weight is clipped, whatever the sign of the advantage.

    Source: CISPO, Eq. 4 and 5 of MiniMax-M1 (arXiv 2506.13585).
    """
    low, high = 1.0 - epsilon_low, 1.0 + epsilon_high
    weight = ratio.detach().clamp(low, high)
    figures = {"clip_low_count": ratio < low, "clip_high_count": ratio > high}
    return -weight * advantages * logprobs, figures


def sapo_losses(
    *,
    ratio: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    sapo_temperatures: tuple[float, float],
) -> Float[Tensor, "B T"]:
    """`-(4 / τ) sigmoid(τ (r - 1)) A`, `τ` by the sign of `A`: a soft gate in place of a clip.

    At `r = 1` the gradient is that of `-r A`; away from it it falls off smoothly, the faster the
    larger `τ`.

    Args:
        ratio: `[B, T]` importance ratios `r`, with gradient.
        advantages: `[B, T]` advantages `A`.
        sapo_temperatures: `τ` where the advantage is positive, and where it is not.

    Returns:
        `[B, T]` losses.

    Source: Soft Adaptive Policy Optimization (arXiv 2511.20347), whose temperatures are 1 and 1.05.
    """
    positive, negative = sapo_temperatures
    temperature = torch.full_like(ratio, negative).masked_fill(advantages > 0, positive)
    return -4.0 / temperature * torch.sigmoid(temperature * (ratio - 1.0)) * advantages


OBJECTIVES: Mapping[str, TokenObjective] = {
    "clip": clipped_losses,
    "cispo": cispo_losses,
    "sapo": sapo_losses,
}


def objective_arguments(function: TokenObjective) -> tuple[str, ...]:
    """Those tensors and settings that an objective names as its arguments.

    Args:
        function: The objective.

    Raises:
        ValueError: If it needs an argument that there is not; one line.
    """
    offered = (*OBJECTIVE_TENSORS, *OBJECTIVE_SETTINGS)
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return offered

    by_name = [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for parameter in parameters:
        is_needed = parameter.default is parameter.empty and parameter.kind != (
            parameter.VAR_POSITIONAL
        )
        if is_needed and (parameter not in by_name or parameter.name not in offered):
            raise ValueError(
                f"its argument {parameter.name!r} is none of those that are given by name: "
                f"{', '.join(offered)}"
            )
    return tuple(p.name for p in by_name if p.name in offered)


def bind_objective(function: TokenObjective, settings: Mapping[str, Any]) -> TokenObjective:
    """An objective with its settings, which takes all tensors and hands on those it names.

    Args:
        function: The objective.
        settings: Values of `OBJECTIVE_SETTINGS` by name.
    """
    names = objective_arguments(function)
    own = {name: settings[name] for name in names if name in OBJECTIVE_SETTINGS}

    def bound(**tensors: Tensor) -> Any:
        return function(**own, **{name: tensors[name] for name in names if name not in own})

    return bound
