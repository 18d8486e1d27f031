"""Calls what a configuration has for RLlib's events of a whole algorithm, as RLlib would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.rllib.callbacks.utils import make_callback

if TYPE_CHECKING:
    from rllib_dapo.algorithm import DAPO


def call_back(algorithm: DAPO, event: str, **results: Any) -> None:
    """Calls a user's callbacks.

    Args:
        algorithm: The algorithm.
        event: RLlib's name of the event, such as `"on_evaluate_end"`.
        **results: What RLlib hands over with this event.
    """
    make_callback(
        event,
        callbacks_objects=algorithm.callbacks,
        callbacks_functions=getattr(algorithm.config, f"callbacks_{event}"),
        kwargs={"algorithm": algorithm, "metrics_logger": algorithm.metrics, **results},
    )
