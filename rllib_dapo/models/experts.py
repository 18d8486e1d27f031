"""Which weights of a mixture of experts a token is multiplied with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Part of the name of a parameter that only some tokens pass through.
_EXPERTS = re.compile(r"(^|\.)experts\.")
_TOP_K = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "top_k_experts")
_NUM_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


def is_of_expert(name: str) -> bool:
    """Whether a parameter of this name belongs to one of several experts."""
    return bool(_EXPERTS.search(name))


def chosen_experts(sizes: Mapping[str, Any]) -> tuple[int, int]:
    """Number of experts that a token passes through, and of all; zeros where there are none.

    Args:
        sizes: Configuration of the text model.
    """

    def first(names: tuple[str, ...]) -> int:
        return next((int(sizes[name]) for name in names if isinstance(sizes.get(name), int)), 0)

    chosen, of = first(_TOP_K), first(_NUM_EXPERTS)
    return (chosen, of) if chosen and of else (0, 0)
