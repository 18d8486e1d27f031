"""The value head: one number for each hidden state, trained beside the policy."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def new_value_head(width: int, dtype: torch.dtype) -> nn.Linear:
    """A head of zeros: values that are not learnt yet must not move the first advantages.

    Args:
        width: Size of a hidden state.
        dtype: Type of the head's weights; hidden states may have another.
    """
    head = nn.Linear(width, 1, dtype=dtype)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    head.register_forward_pre_hook(_in_own_type)
    return head


def _in_own_type(head: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A hook: beside an adapter, the base and so its hidden states may be narrower."""
    dtype = next(head.parameters()).dtype
    return tuple(x.to(dtype) for x in inputs)
