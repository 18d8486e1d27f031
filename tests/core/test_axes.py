from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError

from rllib_dapo import core

Replacements = Mapping[Callable[..., Any], Callable[..., Any]]

LOGPROBS = torch.zeros(2, 3)
MASK = torch.ones(2, 3, dtype=torch.bool)


def test_a_wrong_axis_is_refused() -> None:
    assert core.token_ratios(LOGPROBS, LOGPROBS, MASK).shape == (2, 3)
    with pytest.raises(TypeCheckError, match="old_logprobs"):
        core.token_ratios(LOGPROBS, LOGPROBS[:, :2], MASK)


def test_a_wrong_type_is_refused() -> None:
    with pytest.raises(TypeCheckError, match="mask"):
        core.token_ratios(LOGPROBS, LOGPROBS, MASK.float())


def test_a_function_without_gradient_is_held_to_its_axes_too() -> None:
    weights = core.importance_weights(LOGPROBS.requires_grad_(), LOGPROBS, MASK, cap=2.0)
    assert not weights.requires_grad
    with pytest.raises(TypeCheckError, match="mask"):
        core.importance_weights(LOGPROBS, LOGPROBS, MASK[0], cap=2.0)


def test_advantages_are_one_per_response_or_one_per_token() -> None:
    def loss(advantages: torch.Tensor) -> torch.Tensor:
        return core.dapo_policy_loss(
            LOGPROBS,
            LOGPROBS,
            advantages,
            MASK,
            torch.ones(2),
            epsilon_low=0.2,
            epsilon_high=0.28,
        )[0]

    assert loss(torch.ones(2)) == loss(torch.ones(2, 3))
    with pytest.raises(TypeCheckError, match="advantages"):
        loss(torch.ones(3))


def test_functions_call_each_other_with_the_right_axes(with_axes: Replacements) -> None:
    checked = set(with_axes.values())
    assert core.token_ratios in checked
    assert core.loss.token_ratios in checked  # what `dapo_policy_loss` calls


def test_every_tensor_of_a_public_function_has_axes(with_axes: Replacements) -> None:
    bare = [
        f"{function.__name__}({name})"
        for function in with_axes
        if not function.__name__.startswith("_")
        for name, annotation in inspect.unwrap(function).__annotations__.items()
        if "Tensor" in annotation.replace("Callable[[Tensor], Tensor]", "")
        and "[Tensor, " not in annotation
        and annotation != "dict[str, Tensor]"
    ]
    assert bare == ["full_precision(tensor)"]  # of any shape
