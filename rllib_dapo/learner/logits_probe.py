"""Finds out what a model's own code makes of its logits: a scale, a soft cap, or something else.

Configurations name such things differently (`logit_scale`, `logits_scaling`,
`final_logit_softcapping`, `logits_soft_cap`, ...), some nest them, and the next architecture will
have another name. So names are not looked at. The model is run on a few tokens, with chosen
numbers in place of what its output projection gives; the logits that it returns are its function of
them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rllib_dapo.core import LogitAdjustment
from rllib_dapo.models import whole_shape

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# From numbers so small that a cap does not bend them to numbers that every cap has cut.
PROBES = [sign * 10.0**exponent for exponent in range(-3, 7) for sign in (-1.0, 1.0)]

# Relative error of float32 arithmetic, with room for `tanh`.
TOLERANCE = 1e-4


@torch.no_grad()
def find_logit_adjustment(lm: PreTrainedModel) -> LogitAdjustment | None:
    """What the model makes of its logits, so that they need not be computed in full.

    Args:
        lm: A causal language model, in evaluation mode or without dropout.

    Returns:
        The adjustment. None where it cannot be told: the logits follow no scale and no cap, the
        model does not call its output projection, or projects something else than the last hidden
        states.
    """
    head = lm.get_output_embeddings()
    if not isinstance(head, nn.Module):
        return None

    # Several tokens: the embedding of one that pads may be zero, and then so is all else.
    embeddings = lm.get_input_embeddings().weight
    words = whole_shape(embeddings)[0]
    ids = torch.tensor([[words - 1, words // 2, 1]], device=embeddings.device)
    inputs = {"input_ids": ids, "use_cache": False}
    seen: dict[str, Tensor] = {}
    with _head_replaced(head, seen):
        logits = lm(**inputs).logits
    hidden = lm.base_model(**inputs).last_hidden_state

    if "input" not in seen or not torch.allclose(seen["input"], hidden, rtol=1e-4, atol=1e-6):
        return None
    return fit_adjustment(seen["output"].flatten().double(), logits.flatten().double())


def fit_adjustment(given: Tensor, found: Tensor) -> LogitAdjustment | None:
    """The scale and the cap that lead from one tensor to the other.

    Args:
        given: `[V]` numbers as in `PROBES`.
        found: `[V]` what a model made of them.

    Returns:
        The adjustment, or None if there is none that fits all numbers.
    """
    if given.shape != found.shape or len(given) < len(PROBES) or not torch.isfinite(found).all():
        return None

    largest, smallest = given.abs().argmax(), given.abs().argmin()
    scale = _exact(float(found[smallest] / given[smallest]))
    cap = _exact(float(found[largest].abs()))

    for adjustment in (LogitAdjustment(scale=scale), LogitAdjustment(scale=scale, cap=cap or None)):
        if torch.allclose(adjustment(given), found, rtol=TOLERANCE, atol=0.0):
            return adjustment
    return None


@contextmanager
def _head_replaced(head: nn.Module, seen: dict[str, Tensor]) -> Iterator[None]:
    """Has an output projection give `PROBES`, over and over, for each word of the vocabulary."""

    def replace(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        numbers = torch.tensor(PROBES, dtype=output.dtype, device=output.device)
        repeated = numbers.repeat(-(-output.shape[-1] // len(PROBES)))[: output.shape[-1]]
        seen["input"], seen["output"] = args[0], repeated.expand_as(output).clone()
        return seen["output"].clone()  # the model may work on it in place

    handle = head.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def _exact(number: float) -> float:
    """The number that a configuration means, without the error of float32: 1/3, not 0.33333334."""
    near = float(Fraction(number).limit_denominator(10_000))
    return near if math.isclose(near, number, rel_tol=3e-7) else number
