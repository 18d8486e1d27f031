"""A run's metrics as gauges, which Ray exports to Prometheus as `ray_rllib_dapo_...`.

`GAUGES` is built from `metrics.METRICS`, so a metric that is added there gets a gauge. It adds what
else a dashboard needs: evaluations, the learning rate, and the clip range, which a
population-based sweep changes within a trial.

Gauges go through `ray.util.metrics`, which Ray's agents export on every node, rather than through a
port of our own. The dashboard is generated from the same table, so neither can miss a metric.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import ray
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.util.metrics import Gauge

from rllib_dapo.metrics.iteration_seconds import SECONDS
from rllib_dapo.metrics.metric_table import (
    ACCURACY,
    COMPLETED_AND_CORRECT,
    ENTROPY,
    ENVIRONMENT,
    METRICS,
    ROLLOUT_TOKENS_PER_SECOND,
    Metric,
)
from rllib_dapo.ray_internals import trial_storage

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm

PREFIX = "rllib_dapo_"
TAGS = ("run", "trial", "module")
_WILDCARD = "*"


@dataclass(frozen=True, kw_only=True, slots=True)
class GaugeSpec:
    """One gauge, and where to find its value in a result.

    Attributes:
        name: Name of the gauge, without `PREFIX`.
        key: Key of the value in a result whose levels are joined by slashes. A `*` at the end
            matches any text: a figure of one part of a reward is called `part/figure`.
        unit: Unit, as in `metrics.METRICS`.
        meaning: Description, in one line.
        tag: Tag, beside `TAGS`, for the text that the `*` matched; None without a `*`.
    """

    name: str
    key: str
    unit: str
    meaning: str
    tag: str | None = None

    @property
    def full_name(self) -> str:
        """Name in `ray.util.metrics`. Ray prepends `ray_` for Prometheus."""
        return PREFIX + self.name

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags of the gauge."""
        return TAGS if self.tag is None else (*TAGS, self.tag)

    def tag_value(self, key: str) -> str | None:
        """Matches the key of a result.

        Args:
            key: Key whose levels are joined by slashes.

        Returns:
            The text that the `*` matched, or `""` for a gauge without one. None if the key does not
            match.
        """
        if self.tag is None:
            return "" if key == self.key else None

        stem = self.key.removesuffix(_WILDCARD)
        matched = key.removeprefix(stem)
        return matched if key.startswith(stem) and matched else None


def _gauge_of(metric: Metric) -> GaugeSpec:
    is_environments = metric.name.startswith(ENVIRONMENT)
    name = metric.name.removesuffix(f"/{_WILDCARD}" if is_environments else f"s/{_WILDCARD}")
    return GaugeSpec(
        name=f"{name}_seconds" if metric.source == SECONDS else name,
        key=f"{metric.source}/{metric.name}",
        unit=metric.unit,
        meaning=metric.meaning,
        tag=None if name == metric.name else "environment" if is_environments else "component",
    )


_EVALUATION = "evaluation/env_runners"
_LEARNER = f"learners/{DEFAULT_MODULE_ID}"
SETTINGS = "settings"  # level of a result under which `RunGauges` puts the clip range

GAUGES: tuple[GaugeSpec, ...] = (
    *(_gauge_of(metric) for metric in METRICS),
    *(
        GaugeSpec(
            name=f"evaluation_{name}_at_k",
            key=f"{_EVALUATION}/{name}@{_WILDCARD}",
            unit="share",
            meaning=text,
            tag="k",
        )
        for name, text in (
            ("avg", "evaluation: mean over problems of the share of correct responses"),
            ("pass", "evaluation: problems with a correct response among k"),
            ("maj", "evaluation: problems whose most frequent answer among k is correct"),
        )
    ),
    GaugeSpec(
        name=f"evaluation_{COMPLETED_AND_CORRECT}",
        key=f"{_EVALUATION}/{COMPLETED_AND_CORRECT}",
        unit="share",
        meaning="evaluation: correct responses that ended before the length limit",
    ),
    GaugeSpec(
        name="evaluation_response_length_mean",
        key=f"{_EVALUATION}/response_length_mean",
        unit="tokens",
        meaning="evaluation: mean response length",
    ),
    GaugeSpec(
        name="learning_rate",
        key=f"{_LEARNER}/default_optimizer_learning_rate",
        unit="1",
        meaning="learning rate of the last optimizer step",
    ),
    GaugeSpec(
        name="epsilon_low", key=f"{SETTINGS}/epsilon_low", unit="1", meaning="lower clip range"
    ),
    GaugeSpec(
        name="epsilon_high", key=f"{SETTINGS}/epsilon_high", unit="1", meaning="upper clip range"
    ),
    GaugeSpec(
        name="training_iteration",
        key="training_iteration",
        unit="iterations",
        meaning="training steps done",
    ),
    GaugeSpec(
        name="iteration_seconds",
        key="time_this_iter_s",
        unit="s",
        meaning="time of the last iteration",
    ),
    GaugeSpec(
        name="responses_lifetime",
        key="env_runners/num_env_steps_sampled_lifetime",
        unit="responses",
        meaning="responses sampled so far",
    ),
)


class Reading(NamedTuple):
    """The value of a gauge in one result.

    Attributes:
        spec: The gauge.
        tag_value: Value of the gauge's own tag, `""` if it has none.
        value: A finite number.
    """

    spec: GaugeSpec
    tag_value: str
    value: float


def readings(result: Mapping[str, Any]) -> Iterator[Reading]:
    """The values of all gauges in a result.

    Args:
        result: Result as `Algorithm.train` returns it. Values that are not finite are left out:
            RLlib reports NaN for what an iteration did not log.
    """
    for key, value in _leaves(result):
        for spec in GAUGES:
            tag_value = spec.tag_value(key)
            if tag_value is not None:
                yield Reading(spec, tag_value, value)


class RunGauges:
    """The gauges of one training process. Each is created when it gets its first value."""

    def __init__(self) -> None:
        """Creates no gauge yet."""
        self._gauges: dict[str, Gauge] = {}

    def publish(self, algorithm: Algorithm, result: Mapping[str, Any]) -> None:
        """Sets the gauges, and writes a line to the log of the trial's actor.

        Args:
            algorithm: Provides the names of run and trial, and the settings.
            result: Result of the algorithm's latest iteration.
        """
        tags = {**trial_names(algorithm)._asdict(), "module": DEFAULT_MODULE_ID}
        bounds = {
            "epsilon_low": algorithm.config.epsilon_low,
            "epsilon_high": algorithm.config.epsilon_high,
        }
        for spec, tag_value, value in readings({**result, SETTINGS: bounds}):
            own_tag = {} if spec.tag is None else {spec.tag: tag_value}
            self._gauge(spec).set(value, {**tags, **own_tag})

        # The page of an actor in Ray's dashboard shows its standard error first.
        if ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None:
            sys.stderr.write(f"{iteration_line(result)}\n")
            sys.stderr.flush()

    def _gauge(self, spec: GaugeSpec) -> Gauge:
        if spec.name not in self._gauges:
            self._gauges[spec.name] = Gauge(
                spec.full_name, f"{spec.meaning} ({spec.unit})", tag_keys=spec.tags
            )
        return self._gauges[spec.name]


class TrialNames(NamedTuple):
    """The folder names of a run and of one of its trials, by which people know them."""

    run: str
    trial: str


def trial_names(algorithm: Algorithm) -> TrialNames:
    """The names of an algorithm's run and trial; without Tune, `default`, which is RLlib's word.

    They are taken from the storage, since RLlib drops what else Tune tells a Trainable about its
    trial.

    Args:
        algorithm: Algorithm built by Tune or by hand.
    """
    storage = trial_storage(algorithm)
    if storage is None:
        return TrialNames(run="default", trial="default")
    return TrialNames(run=str(storage.experiment_dir_name), trial=str(storage.trial_dir_name))


def iteration_line(result: Mapping[str, Any]) -> str:
    """Summarizes one iteration for the log of the trial's actor."""
    shown = {
        "accuracy": ("env_runners", ACCURACY, ".3f"),
        "reward": ("env_runners", "episode_return_mean", "+.2f"),
        "entropy": (_LEARNER, ENTROPY, ".3f"),
        "tokens/s": ("env_runners", ROLLOUT_TOKENS_PER_SECOND, ".0f"),
    }
    leaves = dict(_leaves(result))
    metrics = [
        f"{label} {leaves[f'{source}/{name}']:{form}}"
        for label, (source, name, form) in shown.items()
        if f"{source}/{name}" in leaves
    ]
    return f"iteration {result['training_iteration']}: {', '.join(metrics)}"


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    """Every finite number in nested mappings, with its keys joined by slashes."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}/")
        elif isinstance(value, Real) and math.isfinite(value):
            yield f"{path}{key}", float(value)
