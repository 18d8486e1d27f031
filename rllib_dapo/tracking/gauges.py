"""A run's curves as gauges, which Ray exports to Prometheus as `ray_rllib_dapo_...`.

`GAUGES` is made of `metrics.METRICS`, so that a metric which is added there has a gauge, and adds
what a dashboard wants beside it: evaluations, timers, the learning rate and the clip range, which a
population based sweep changes on the way.
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

from rllib_dapo.metrics.metric_table import (
    ACCURACY,
    ENTROPY,
    METRICS,
    ROLLOUT_TOKENS_PER_SECOND,
    Metric,
)

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm

PREFIX = "rllib_dapo_"
TAGS = ("run", "trial", "module")
_WILDCARD = "*"


@dataclass(frozen=True, kw_only=True, slots=True)
class GaugeSpec:
    """One gauge, and where its value stands in a result.

    Attributes:
        name: The gauge's, without `PREFIX`.
        key: In a result whose levels are joined by slashes; a `*` at its end stands for any rest
            without a slash.
        unit: As in `metrics.METRICS`.
        meaning: One line.
        tag: The tag, beside `TAGS`, that tells what stood in place of the `*`.
    """

    name: str
    key: str
    unit: str
    meaning: str
    tag: str | None = None

    @property
    def full_name(self) -> str:
        """The name it has in `ray.util.metrics`; in Prometheus `ray_` stands before it."""
        return PREFIX + self.name

    @property
    def tags(self) -> tuple[str, ...]:
        """Every tag of the gauge."""
        return TAGS if self.tag is None else (*TAGS, self.tag)

    def rest(self, key: str) -> str | None:
        """What of a key stands in place of the `*`: `""` where there is none, None where the key is another's."""
        if self.tag is None:
            return "" if key == self.key else None
        stem = self.key.removesuffix(_WILDCARD)
        rest = key.removeprefix(stem)
        return rest if key.startswith(stem) and rest and "/" not in rest else None


def _gauge_of(metric: Metric) -> GaugeSpec:
    name = metric.name.removesuffix(f"s/{_WILDCARD}")
    return GaugeSpec(
        name=name,
        key=f"{metric.source}/{metric.name}",
        unit=metric.unit,
        meaning=metric.meaning,
        tag=None if name == metric.name else "component",
    )


_EVALUATION = "evaluation/env_runners"
_LEARNER = f"learners/{DEFAULT_MODULE_ID}"
SETTINGS = "settings"
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
    GaugeSpec(name="epsilon_low", key=f"{SETTINGS}/epsilon_low", unit="1", meaning="lower clip range"),
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
        meaning="time of the last training step",
    ),
    GaugeSpec(
        name="sampling_seconds",
        key="timers/env_runner_sampling_timer",
        unit="s",
        meaning="of a training step: sampling and scoring, until the batch is full",
    ),
    GaugeSpec(
        name="update_seconds",
        key="timers/learner_update_timer",
        unit="s",
        meaning="of a training step: the update",
    ),
    GaugeSpec(
        name="weight_sync_seconds",
        key="timers/synch_weights",
        unit="s",
        meaning="of a training step: giving the engines the new weights",
    ),
    GaugeSpec(
        name="responses_lifetime",
        key="env_runners/num_env_steps_sampled_lifetime",
        unit="responses",
        meaning="responses sampled so far",
    ),
)


class Reading(NamedTuple):
    """A spec's value in one result, and the value of its own tag."""

    spec: GaugeSpec
    rest: str
    value: float


def readings(result: Mapping[str, Any]) -> Iterator[Reading]:
    """What of a result goes into gauges.

    Args:
        result: As `Algorithm.train` returns it. What is not finite is left out: RLlib reports as
            NaN what an iteration did not log.
    """
    for key, value in _leaves(result):
        for spec in GAUGES:
            rest = spec.rest(key)
            if rest is not None:
                yield Reading(spec, rest, value)


class RunGauges:
    """The gauges of one process that trains; each is made when there is a first value for it."""

    def __init__(self) -> None:
        """Makes none yet."""
        self._gauges: dict[str, Gauge] = {}

    def publish(self, algorithm: Algorithm, result: Mapping[str, Any]) -> None:
        """Sets the gauges, and writes a line into the log of the trial's actor.

        Args:
            algorithm: Names run and trial, and has the settings.
            result: Its newest one.
        """
        tags = {**trial_names(algorithm)._asdict(), "module": DEFAULT_MODULE_ID}
        bounds = {
            "epsilon_low": algorithm.config.epsilon_low,
            "epsilon_high": algorithm.config.epsilon_high,
        }
        for spec, rest, value in readings({**result, SETTINGS: bounds}):
            self._gauge(spec).set(value, tags if spec.tag is None else {**tags, spec.tag: rest})
        if ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None:
            sys.stderr.write(f"{iteration_line(result)}\n")  # which the actor's page shows first
            sys.stderr.flush()

    def _gauge(self, spec: GaugeSpec) -> Gauge:
        if spec.name not in self._gauges:
            self._gauges[spec.name] = Gauge(
                spec.full_name, f"{spec.meaning} ({spec.unit})", tag_keys=spec.tags
            )
        return self._gauges[spec.name]


class TrialNames(NamedTuple):
    """The folders of a run and of a trial of it: what people know them by."""

    run: str
    trial: str


def trial_names(algorithm: Algorithm) -> TrialNames:
    """What an algorithm's run and trial are called; `default`, as RLlib calls them, without Tune.

    RLlib loses what else Tune tells a Trainable of its trial.

    Args:
        algorithm: As built, by Tune or by hand.
    """
    storage = algorithm._storage
    if storage is None:
        return TrialNames(run="default", trial="default")
    return TrialNames(run=str(storage.experiment_dir_name), trial=str(storage.trial_dir_name))


def iteration_line(result: Mapping[str, Any]) -> str:
    """What the log of a trial's actor says of one iteration."""
    shown = {
        "accuracy": ("env_runners", ACCURACY, ".3f"),
        "reward": ("env_runners", "episode_return_mean", "+.2f"),
        "entropy": (_LEARNER, ENTROPY, ".3f"),
        "tokens/s": ("env_runners", ROLLOUT_TOKENS_PER_SECOND, ".0f"),
    }
    leaves = dict(_leaves(result))
    figures = [
        f"{label} {leaves[f'{source}/{name}']:{form}}"
        for label, (source, name, form) in shown.items()
        if f"{source}/{name}" in leaves
    ]
    return f"iteration {result['training_iteration']}: {', '.join(figures)}"


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    """Every finite number in nested mappings, by its keys joined with slashes."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}/")
        elif isinstance(value, Real) and math.isfinite(value):
            yield f"{path}{key}", float(value)
