"""Checks of `rollout.max_staleness`: can EnvRunners go on sampling while Learners train?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rllib_dapo.findings import at_least

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig


def check_staleness(config: DAPOConfig) -> Iterator[str]:
    """Findings on the setting itself, and on settings that contradict it.

    Args:
        config: Configuration whose values are of their kinds.

    Yields:
        One line for each finding.
    """
    yield from at_least("rollout.max_staleness", config.max_staleness, 0, "0 never trains on old")
    if config.on_shortfall == "reuse" and config.max_staleness == 0:
        yield (
            "dynamic_sampling.on_shortfall=reuse trains on groups of earlier steps, and "
            "rollout.max_staleness=0 allows none that is older than the weights: set it to 1 or "
            "more, or on_shortfall to train_partial"
        )
    # RLlib makes evaluation's configuration of training's, with no EnvRunners.
    if config.max_staleness <= 0 or config.in_evaluation:
        return

    contradictions = {
        "env_runners.num_env_runners=0 samples in the driver's process, which waits for Learners: "
        "set it to 1 or more": config.num_env_runners == 0,
        "rollout.colocate=true has engines sleep while Learners train": config.colocate,
        "language_model.lora would have engines drop the adapter that responses under way are "
        "sampled from": config.lora is not None,
        "training.old_logprobs=sampler has no correction for what was sampled with older weights: "
        "set it to trainer": config.old_logprobs == "sampler",
    }
    for reason in (reason for reason, is_so in contradictions.items() if is_so):
        yield (
            f"rollout.max_staleness={config.max_staleness} samples while Learners train, and "
            f"{reason}; or set max_staleness to 0"
        )
