"""Attributes of a configuration that say nothing of their own about a trial."""

from __future__ import annotations

from rllib_dapo.run.search.clip_bounds import DRAW

_PREFIXES = (
    "_",
    DRAW,
    "evaluation_config/_",
    # RLlib's own record of its modules. Tune keeps tuples as lists, so in a resumed run it seems to
    # differ between trials.
    "policies/",
    "simple_optimizer",
    "row_work",  # counted in the model
    "torch_compile_",
)


def is_derived(name: str) -> bool:
    """Whether an attribute follows from other settings, and so need not be told.

    Args:
        name: Attribute of `DAPOConfig`, nested names joined by slashes.
    """
    return name.startswith(_PREFIXES)
