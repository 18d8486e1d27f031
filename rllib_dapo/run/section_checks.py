"""The names that a run file may use, and the kinds of values they take."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_dapo.config.dapo_config import PRESETS, DAPOConfig, sections
from rllib_dapo.config.kinds import CHOICES, OPTIONAL
from rllib_dapo.findings import SettingsError, one_of, suggest
from rllib_dapo.metrics.metric_table import METRICS, REWARD_COMPONENTS
from rllib_dapo.ray_internals import DEPRECATED_VALUE
from rllib_dapo.run.search.stoppers import STOP_RULES, check_stop_rule
from rllib_dapo.run.yaml_file import PRESET, Tree, put

SPACES = ("grid", "choice", "uniform", "loguniform")
EXTRA_SECTIONS = ("search", "variants", "tune", "stop")
_RLLIB_METRICS = ("training_iteration", "time_total_s", "num_env_steps_sampled_lifetime")
_WORDY = ("str", "Any")  # annotations under which a text may stand
_NULLABLE = (*OPTIONAL, "tune.name")
# A variant's name is part of its trials' names, and so of folders'.
_VARIANT_NAME = re.compile(r"[\w.+-]+", re.ASCII)
_ANY_VALUE = object()  # stands where only the name is looked at
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "bool": ((bool,), "true or false"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "str": ((str,), "text"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneSettings:
    """The section `tune`: how trials are made and kept.

    Attributes:
        name: The run's folder is called this and the time of its start; the file's name if not
            given.
        num_samples: Trials; with a grid, times its points.
        max_concurrent_trials: At the same time; 0 sets no limit.
        metric: By which trials are compared.
        mode: "max" or "min".
        checkpoint_frequency: Iterations between checkpoints; there is also one at the end.
        num_to_keep: The newest checkpoints that are kept.
        max_failures: How often a failed trial starts again from its last checkpoint.
        scheduler: `{type: fifo | asha | pbt, ...}`, see `run.schedulers`.
        searcher: `{type: random | optuna, ...}`, see `run.searchers`.
        reuse_actors: A trial takes over the processes, and so the engine, of one that has ended or
            pauses, where no setting between them asks for others.
    """

    name: str | None = None
    num_samples: int = 1
    max_concurrent_trials: int = 0
    metric: str = "env_runners/accuracy"
    mode: str = "max"
    checkpoint_frequency: int = 20
    num_to_keep: int = 2
    max_failures: int = 0
    scheduler: dict[str, Any] = dataclasses.field(default_factory=lambda: {"type": "fifo"})
    searcher: dict[str, Any] = dataclasses.field(default_factory=lambda: {"type": "random"})
    reuse_actors: bool = True


def check_names(tree: Tree, source: str) -> None:
    """Refuses sections and settings that nobody would read, and values of a wrong kind.

    Args:
        tree: Section to settings.
        source: Where it stands, for the message.

    Raises:
        SettingsError: For the first one found.
    """
    known = (*sections(), *EXTRA_SECTIONS, PRESET)
    for section, content in tree.items():
        if section == PRESET:
            for problem in one_of(PRESET, content, tuple(PRESETS)):
                raise SettingsError(f"{source}: {problem}")
            continue
        if section not in known:
            raise SettingsError(f"{source}: unknown section {section!r}{suggest(section, known)}")
        if not isinstance(content, dict):
            raise SettingsError(
                f"{source}: {section}={content!r} must be a section with settings under it"
            )
        if section == "search":
            _check_search(content, source)
        elif section == "variants":
            _check_variants(content, source)
        elif section == "stop":
            _check_stop(flat_metrics(content), source)
        elif section == "tune":
            _check_tune(content, source)
        else:
            _check_section(section, content, allowed_settings(section), source)


def allowed_settings(section: str) -> dict[str, str]:
    """The settings of a section, and their annotations as text."""
    own = inspect.signature(getattr(DAPOConfig, section)).parameters
    takes_more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values())
    inherited = (
        inspect.signature(getattr(AlgorithmConfig, section)).parameters if takes_more else {}
    )
    return {
        name: parameter.annotation
        if isinstance(parameter.annotation, str)
        else str(parameter.annotation)
        for name, parameter in {**inherited, **own}.items()
        if name != "self"
        and parameter.kind is not parameter.VAR_KEYWORD
        and parameter.default != DEPRECATED_VALUE
    }


def flat_metrics(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """Metric names as Tune writes them, from nested or dotted ones."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = prefix + name.replace(".", "/")
        flat |= flat_metrics(value, f"{path}/") if isinstance(value, dict) else {path: value}
    return flat


def check_overlap(tree: Tree, source: str) -> None:
    """Refuses a setting that is searched for and also differs between variants.

    Args:
        tree: Checked by `check_names`.
        source: Where it stands, for the message.

    Raises:
        SettingsError: For the first one found.
    """
    for variant, settings in tree.get("variants", {}).items():
        for name in settings:
            for searched in tree.get("search", {}):
                if f"{name}.".startswith(f"{searched}.") or f"{searched}.".startswith(f"{name}."):
                    raise SettingsError(
                        f"{source}: {name} stands in variants.{variant} and {searched} in search: let one of the two "
                        "decide"
                    )


def _check_section(section: str, content: Tree, known: Mapping[str, str], source: str) -> None:
    dotted = {f"{section}.{name}": annotation for name, annotation in known.items()}
    for name, value in content.items():
        setting = f"{section}.{name}"
        if setting not in dotted:
            raise SettingsError(f"{source}: unknown setting {setting!r}{suggest(setting, dotted)}")
        is_off = setting in _NULLABLE and value is None
        is_word = setting in CHOICES and isinstance(
            value, str
        )  # which one is checked with the values
        problem = None if is_off or is_word else _wrong_kind(value, dotted[setting])
        if problem:
            raise SettingsError(f"{source}: {setting}={value!r} must be {problem}")


def _wrong_kind(value: Any, annotation: str) -> str | None:
    """What an annotation asks for instead of this value, as far as that is plain to see."""
    if value is _ANY_VALUE:
        return None
    # RLlib annotates CPUs as int and takes fractions: only our own annotations are taken at their
    # word.
    kinds, wanted = _KINDS.get(annotation.removesuffix(" | None"), ((), None))
    if annotation == "dict[str, Any]":
        return None if isinstance(value, dict) else "settings, such as {type: ...}"
    if isinstance(value, str):
        return (
            None
            if any(word in annotation for word in _WORDY)
            else wanted or "a number, or what RLlib documents"
        )
    # To Python, True is an int.
    fits = not kinds or (
        isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    )
    return None if fits else wanted


def _check_tune(tuning: Tree, source: str) -> None:
    _check_section(
        "tune", tuning, {f.name: str(f.type) for f in dataclasses.fields(TuneSettings)}, source
    )
    if tuning.get("mode", "max") not in ("max", "min"):
        raise SettingsError(f"{source}: tune.mode={tuning['mode']!r} must be max or min")
    if "metric" in tuning:
        _check_metric(
            tuning["metric"].replace(".", "/"), f"{source}: tune.metric={tuning['metric']!r}"
        )


def _check_search(search: Tree, source: str) -> None:
    for name, space in search.items():
        section, _, key = name.partition(".")
        if section in EXTRA_SECTIONS:
            raise SettingsError(
                f"{source}: search.{name}: only what differs between trials can be searched for"
            )
        if section == PRESET:
            raise SettingsError(
                f"{source}: search.{name}: compare presets as variants, such as {{grpo: {{preset: grpo}}}}"
            )
        check_names(put({}, name, _ANY_VALUE) if key else {section: None}, f"{source}: search")
        shape = "must be one of {grid: [...]}, {choice: [...]}, {uniform: [low, high]}, {loguniform: [low, high]}"
        if not isinstance(space, dict) or len(space) != 1 or next(iter(space)) not in SPACES:
            raise SettingsError(f"{source}: search.{name}={space!r} {shape}")
        kind, values = next(iter(space.items()))
        is_range = kind.endswith("uniform")
        if (
            not isinstance(values, list)
            or not values
            or (is_range and not _is_range(values, above_zero="log" in kind))
        ):
            raise SettingsError(f"{source}: search.{name}={space!r} {shape}, with low < high")


def _check_variants(variants: Tree, source: str) -> None:
    for variant, settings in variants.items():
        where = f"{source}: variants.{variant}"
        if not _VARIANT_NAME.fullmatch(variant):
            raise SettingsError(f"{where}: a variant's name is made of letters, digits and . _ + -")
        if not isinstance(settings, dict):
            raise SettingsError(
                f"{where}={settings!r} must be settings such as {{training.epsilon_high: 0.28}}, or {{}}"
            )
        for name, value in settings.items():
            section, _, key = name.partition(".")
            if section in EXTRA_SECTIONS:
                raise SettingsError(
                    f"{where}.{name}: only what differs between trials can stand in a variant"
                )
            if not key and section != PRESET:
                raise SettingsError(
                    f"{where}.{name}: write a setting with its section, such as training.epsilon_high"
                )
            check_names(put({}, name, value), where)


def _is_range(values: list[Any], *, above_zero: bool) -> bool:
    numbers = [value for value in values if isinstance(value, int | float)]
    return (
        len(values) == len(numbers) == 2
        and numbers[0] < numbers[1]
        and (numbers[0] > 0 or not above_zero)
    )


def _check_stop(stop: Tree, source: str) -> None:
    for name, value in stop.items():
        if name in STOP_RULES:
            for problem in check_stop_rule(name, value):
                raise SettingsError(f"{source}: {problem}")
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SettingsError(f"{source}: stop.{name}={value!r} must be a number")
        _check_metric(name, f"{source}: stop.{name}")


def _check_metric(name: str, where: str) -> None:
    """Refuses a metric that nobody reports: Tune would wait for it without end."""
    known = [
        *STOP_RULES,
        *_RLLIB_METRICS,
        *(f"{metric.source}/{metric.name}" for metric in METRICS),
    ]
    name = name.removeprefix("evaluation/")
    if name.startswith(("env_runners/avg@", f"env_runners/{REWARD_COMPONENTS}")):
        return
    if name not in known and ("/" not in name or suggest(name, known)):
        raise SettingsError(f"{where}: no such metric{suggest(name, known)}")
