"""The objective that `training.objective` names: a shipped one, or a user's own, with checks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rllib_dapo.core import (
    OBJECTIVE_SETTINGS,
    OBJECTIVES,
    RatioLevel,
    TokenObjective,
    bind_objective,
    objective_arguments,
    sequence_ratios,
    token_ratios,
)
from rllib_dapo.learner.own_functions import call_own, resolve_function
from rllib_dapo.metrics.metric_table import OWN_FIGURES

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

SETTING = "training.objective"
_FIGURE_NAME = re.compile(r"[a-z][a-z0-9_]*")


def policy_objective(config: DAPOConfig) -> TokenObjective:
    """The objective of a configuration, with its settings, as `core.policy_loss` calls it.

    Args:
        config: The algorithm's configuration.

    Raises:
        ValueError: If a user's own cannot be found, or needs what it is not given; one line.
    """
    settings = {name: getattr(config, name) for name in OBJECTIVE_SETTINGS}
    function = resolve_objective(config.objective)
    if is_shipped(config.objective):
        return bind_objective(function, settings)
    return _OwnObjective(f"{SETTING}={config.objective!r}", function, settings)


def is_shipped(objective: Any) -> bool:
    """Whether `training.objective` is one of the names."""
    return isinstance(objective, str) and objective in OBJECTIVES


def resolve_objective(objective: Any) -> TokenObjective:
    """The function that `training.objective` names.

    Raises:
        ValueError: If there is none, or it needs an argument that there is not; one line.
    """
    if is_shipped(objective):
        return OBJECTIVES[objective]
    function = resolve_function(SETTING, objective)
    try:
        objective_arguments(function)
    except ValueError as error:
        raise ValueError(f"{SETTING}={objective!r}: {error}") from None
    return function


class _OwnObjective:
    """Calls a user's objective, and looks at what it gives; nothing waits for the device."""

    def __init__(
        self, where: str, function: Callable[..., Any], settings: Mapping[str, Any]
    ) -> None:
        self._where = where
        self._function = bind_objective(function, settings)

    def __call__(self, **tensors: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logprobs, mask = tensors["logprobs"], tensors["mask"]
        if not mask.numel():  # a Learner without work: nothing that a function could compute with
            return logprobs * 0.0, {}

        given = call_own(self._where, self._function, **tensors)
        losses, figures = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
        self._check(losses, mask, "losses")
        if losses.dtype == torch.bool or not losses.is_floating_point():
            raise ValueError(f"{self._where} gave losses of {losses.dtype}: they must be real")
        if logprobs.requires_grad and torch.is_grad_enabled() and not losses.requires_grad:
            raise ValueError(
                f"{self._where} gave losses without a gradient: they must be computed from "
                "logprobs or ratio, without detach"
            )
        return losses, self._named(figures, mask)

    def _named(self, figures: Any, mask: Tensor) -> dict[str, Tensor]:
        if not isinstance(figures, Mapping):
            raise ValueError(
                f"{self._where} gave {type(figures).__name__} beside the losses: figures must be a "
                "dictionary of tensors [B, T] by name"
            )

        named = {}
        for name, figure in figures.items():
            if not isinstance(name, str) or not _FIGURE_NAME.fullmatch(name):
                raise ValueError(
                    f"{self._where} gave a figure {name!r}: names are small letters, digits and _"
                )
            self._check(figure, mask, f"the figure {name!r}")
            if figure.is_complex():
                raise ValueError(f"{self._where} gave the figure {name!r} of {figure.dtype}")
            named[f"{OWN_FIGURES}{name}_sum"] = figure.detach()
        return named

    def _check(self, given: Any, mask: Tensor, what: str) -> None:
        if not isinstance(given, Tensor):
            raise ValueError(
                f"{self._where} gave {type(given).__name__} for {what}: it must give a tensor "
                "[B, T], or a pair of that and a dictionary of figures"
            )
        if given.shape != mask.shape:
            raise ValueError(
                f"{self._where} gave {tuple(given.shape)} for {what}: it must give one number for "
                f"each token, {tuple(mask.shape)}"
            )


def try_own_objective(config: DAPOConfig) -> None:
    """Calls a user's own objective once with a few made-up tokens.

    Args:
        config: The algorithm's configuration.

    Raises:
        ValueError: If what it gives cannot be trained with, or would depend on how a mini-batch is
            cut into micro-batches; one line.
    """
    where, objective = f"{SETTING}={config.objective!r}", policy_objective(config)
    logprobs, tensors = _made_up_tokens(config.ratio_level)
    versions = {name: tensor._version for name, tensor in tensors.items()}
    mask = tensors["mask"]
    losses = objective(**tensors)[0]

    changed = [name for name, tensor in tensors.items() if tensor._version != versions[name]]
    if changed:
        raise ValueError(f"{where} changes {changed[0]} in place: it must leave its inputs alone")
    if not losses[mask].isfinite().all():
        raise ValueError(f"{where} gave a loss that is not finite, of ordinary tokens")
    (gradient,) = torch.autograd.grad(losses[mask].sum(), logprobs, allow_unused=True)
    if gradient is None or not gradient.any():
        raise ValueError(f"{where} gave losses whose gradient by the log-probabilities is zero")
    if not gradient.isfinite().all():
        raise ValueError(f"{where} gave losses whose gradient is not finite, of ordinary tokens")

    alone = torch.zeros_like(losses)
    for row in range(len(mask)):
        width = int(mask[row].nonzero().max()) + 1
        part = {name: tensor[row : row + 1, :width] for name, tensor in tensors.items()}
        alone[row, :width] = objective(**part)[0].detach()[0]
    if not torch.allclose(alone[mask], losses.detach()[mask], rtol=1e-4, atol=1e-6):
        raise ValueError(
            f"{where} gives a response other losses when it is alone in a micro-batch: each row's "
            "losses must depend on that row alone, and weights and sums are left to "
            "training.loss_aggregation"
        )


def _made_up_tokens(ratio_level: RatioLevel) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities with gradient, and all tensors of an objective: three responses.

    Ratios lie around 1, advantages have both signs, and one token within a response has no loss.
    """
    generator = torch.Generator().manual_seed(0)

    def normal() -> Tensor:
        return torch.randn(3, 5, generator=generator, dtype=torch.float64)

    mask = torch.arange(5) < torch.tensor([[5], [4], [2]])
    mask[1, 1] = False
    old_logprobs = torch.where(mask, -1.0 - normal().abs(), 0.0)
    leaf = (old_logprobs + 0.2 * normal()).requires_grad_()
    ratios = token_ratios if ratio_level == "token" else sequence_ratios
    advantages = torch.tensor([[1.0], [-1.5], [0.5]], dtype=torch.float64).expand(3, 5)

    return leaf, {
        "logprobs": torch.where(mask, leaf, 0.0),
        "old_logprobs": old_logprobs,
        "ratio": ratios(leaf, old_logprobs, mask),
        "advantages": torch.where(mask, advantages, 0.0),
        "mask": mask,
    }
