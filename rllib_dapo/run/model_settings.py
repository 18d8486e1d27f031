"""The settings of one model without a run, from `--set`."""

from __future__ import annotations

from collections.abc import Sequence

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.model_check.sizes import Lengths
from rllib_dapo.run.layers import put_overrides, read_overrides
from rllib_dapo.run.run_file import take_apart
from rllib_dapo.run.run_settings import ready

_LENGTHS = ("rollout.max_prompt_tokens", "rollout.max_response_tokens")


def model_settings(model: str, overrides: Sequence[str]) -> tuple[DAPOConfig, Lengths | None]:
    """How a model is to be computed, and how long sequences are to be.

    Args:
        model: Folder, hub name or name of a built-in model.
        overrides: Texts `dotted.name=value`, as after `--set`.

    Returns:
        The configuration. The lengths are None unless one of them was given.

    Raises:
        SettingsError: For the first finding on names and kinds of values.
    """
    given = read_overrides(overrides)
    tree = put_overrides({"language_model": {"name": model}}, given)
    config = take_apart(ready(tree), name="model", source="--set").configuration()

    if not any(override.name in _LENGTHS for override in given):
        return config, None
    return config, Lengths(
        max_prompt_tokens=config.max_prompt_tokens, max_response_tokens=config.max_response_tokens
    )
