"""The figures of each environment of a mixture, beside those of all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ray.rllib.utils.metrics import EPISODE_RETURN_MEAN

from rllib_dapo.core.types import GroupSummary
from rllib_dapo.envs.mixture import environment_names
from rllib_dapo.metrics.metric_table import ACCURACY, ENVIRONMENT, RESPONSE_LENGTH_MEAN
from rllib_dapo.metrics.rollout_metrics import verdict_metrics

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# What an environment's figure is called, by that of all environments.
_FIGURES = {
    EPISODE_RETURN_MEAN: "reward",
    ACCURACY: "accuracy",
    RESPONSE_LENGTH_MEAN: "response_length",
    "missing_reward_fraction": "missing",
}


def environments_of(config: DAPOConfig) -> Callable[[int], str] | None:
    """Returns what names the environment of a prompt seed; None where there is only one.

    Args:
        config: Training's or evaluation's configuration.
    """
    return environment_names(config.env, config.env_config)


def environment_metrics(
    groups: Sequence[GroupSummary],
    name_of: Callable[[int], str] | None,
    *,
    accepted: Sequence[GroupSummary] | None = None,
) -> dict[str, float]:
    """Returns what is reported of each environment, such as `environment_accuracy/NAME`.

    Args:
        groups: Summaries of the groups that were decided on, or evaluated.
        name_of: Names the environment of a prompt seed; None: there is only one.
        accepted: Those that are trained on; None in an evaluation.
    """
    if name_of is None:
        return {}

    figures: dict[str, float] = {}
    for name, own in _by_environment(groups, name_of).items():
        computed = verdict_metrics(own)
        figures |= {
            f"{ENVIRONMENT}{figure}/{name}": computed[key]
            for key, figure in _FIGURES.items()
            if key in computed
        }
        figures[f"{ENVIRONMENT}groups/{name}"] = len(own)
    if accepted is not None:
        trained = _by_environment(accepted, name_of)
        names = _by_environment(groups, name_of) | trained
        figures |= {
            f"{ENVIRONMENT}groups_accepted/{name}": len(trained.get(name, ())) for name in names
        }
    return figures


def _by_environment(
    groups: Sequence[GroupSummary], name_of: Callable[[int], str]
) -> dict[str, list[GroupSummary]]:
    found: defaultdict[str, list[GroupSummary]] = defaultdict(list)
    for group in groups:
        found[name_of(group.seed)].append(group)
    return dict(sorted(found.items()))
