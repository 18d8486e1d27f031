"""The names that a run file may use, and the kinds of values they take."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.objective_presets import PRESETS
from rllib_dapo.config.setting import section_kinds, sections
from rllib_dapo.config.value_kinds import misfit
from rllib_dapo.findings import SettingsError, one_of, suggest
from rllib_dapo.metrics.metric_table import (
    ENVIRONMENT,
    METRICS,
    OWN_FIGURES,
    REWARD_COMPONENTS,
    REWARD_METRICS,
)
from rllib_dapo.run.search.option_checks import is_number
from rllib_dapo.run.search.paired_seeds import SEEDS, check_seeds
from rllib_dapo.run.search.stoppers import STOP_RULES, check_stop_rule
from rllib_dapo.run.tune_settings import TUNE_KINDS, check_tune_value
from rllib_dapo.run.yaml_file import PRESET, Tree, put

SPACES = ("grid", "choice", "uniform", "loguniform")
EXTRA_SECTIONS = ("search", "variants", "tune", "stop")
# Metrics whose last part a user names.
_NAMED_BY_USERS = (
    "env_runners/avg@",
    f"env_runners/{REWARD_COMPONENTS}",
    f"env_runners/{REWARD_METRICS}",
    f"learners/default_policy/{OWN_FIGURES}",
    *(
        f"env_runners/{metric.name.removesuffix('*')}"
        for metric in METRICS
        if metric.name.startswith(ENVIRONMENT)
    ),
)
_RLLIB_METRICS = ("training_iteration", "time_total_s", "num_env_steps_sampled_lifetime")
# A variant's name is part of its trials' names, and so of folders'.
_VARIANT_NAME = re.compile(r"[\w.+-]+", re.ASCII)
_ANY_VALUE = object()  # stands where only the name is looked at


class RunFileChecks:
    """Refuses names that nobody would read, and values of a wrong kind."""

    def __init__(self, source: str, config_class: type[DAPOConfig] = DAPOConfig) -> None:
        """Says where what is checked stands.

        Args:
            source: File or option, for messages.
            config_class: Configuration whose methods are the sections.
        """
        self._source = source
        self._config_class = config_class

    def check(self, tree: Tree) -> None:
        """Checks sections and their settings.

        Args:
            tree: Section to settings.

        Raises:
            SettingsError: For the first finding.
        """
        known = (*sections(self._config_class), *EXTRA_SECTIONS, PRESET)
        checks = {
            "search": self._check_search,
            "variants": self._check_variants,
            "stop": self._check_stop,
            "tune": self._check_tune,
        }
        for section, content in tree.items():
            if section == PRESET:
                for problem in one_of(PRESET, content, tuple(PRESETS)):
                    raise self._error(problem)
                continue
            if section not in known:
                raise self._error(f"unknown section {section!r}{suggest(section, known)}")
            if not isinstance(content, dict):
                raise self._error(f"{section}={content!r} must be a section with settings under it")
            if section in checks:
                checks[section](content)
            else:
                kinds = section_kinds(self._config_class, section)
                self._check_section(section, content, kinds)

    def check_overlap(self, search: Tree, variants: Tree) -> None:
        """Refuses a setting that is searched for and also differs between variants.

        Raises:
            SettingsError: For the first one found.
        """
        pairs = (
            (variant, name, searched)
            for variant, settings in variants.items()
            for name in settings
            for searched in search
        )
        for variant, name, searched in pairs:
            is_inside = f"{name}.".startswith(f"{searched}.")
            if is_inside or f"{searched}.".startswith(f"{name}."):
                raise self._error(
                    f"{name} stands in variants.{variant} and {searched} in search: let one of "
                    "the two decide"
                )

    def _error(self, finding: str) -> SettingsError:
        return SettingsError(f"{self._source}: {finding}")

    def _check_section(self, section: str, content: Tree, kinds: Mapping[str, Any]) -> None:
        dotted = {f"{section}.{name}": kind for name, kind in kinds.items()}
        for name, value in content.items():
            setting = f"{section}.{name}"
            if setting not in dotted:
                raise self._error(f"unknown setting {setting!r}{suggest(setting, dotted)}")
            wanted = None if value is _ANY_VALUE else misfit(value, dotted[setting])
            if wanted:
                raise self._error(f"{setting}={value!r} must be {wanted}")

    def _check_tune(self, tuning: Tree) -> None:
        self._check_section("tune", tuning, TUNE_KINDS)
        for name, value in tuning.items():
            for problem in check_tune_value(name, value):
                raise self._error(problem)
        if "metric" in tuning:
            self._check_metric(
                tuning["metric"].replace(".", "/"), f"tune.metric={tuning['metric']!r}"
            )

    def _check_search(self, search: Tree) -> None:
        for name, space in search.items():
            if name == SEEDS:
                for problem in check_seeds(space):
                    raise self._error(problem)
                continue
            section, _, key = name.partition(".")
            if section in EXTRA_SECTIONS:
                raise self._error(
                    f"search.{name}: only what differs between trials can be searched for"
                )
            if section == PRESET:
                raise self._error(
                    f"search.{name}: compare presets as variants, such as "
                    "{grpo: {preset: grpo}}"
                )
            inner = RunFileChecks(f"{self._source}: search", self._config_class)
            inner.check(put({}, name, _ANY_VALUE) if key else {section: None})
            self._check_space(name, space)

    def _check_space(self, name: str, space: Any) -> None:
        shape = (
            "must be one of {grid: [...]}, {choice: [...]}, {uniform: [low, high]}, "
            "{loguniform: [low, high]}"
        )
        if not isinstance(space, dict) or len(space) != 1 or next(iter(space)) not in SPACES:
            raise self._error(f"search.{name}={space!r} {shape}")

        kind, values = next(iter(space.items()))
        fits = isinstance(values, list) and bool(values)
        if fits and kind.endswith("uniform"):
            fits = _is_range(values, above_zero="log" in kind)
        if not fits:
            raise self._error(f"search.{name}={space!r} {shape}, with low < high")

    def _check_variants(self, variants: Tree) -> None:
        for variant, settings in variants.items():
            where = f"variants.{variant}"
            if not _VARIANT_NAME.fullmatch(variant):
                raise self._error(
                    f"{where}: a variant's name is made of letters, digits and . _ + -"
                )
            if not isinstance(settings, dict):
                raise self._error(
                    f"{where}={settings!r} must be settings such as "
                    "{training.epsilon_high: 0.28}, or {}"
                )

            inner = RunFileChecks(f"{self._source}: {where}", self._config_class)
            for name, value in settings.items():
                section, _, key = name.partition(".")
                if section in EXTRA_SECTIONS:
                    raise self._error(
                        f"{where}.{name}: only what differs between trials can stand in a variant"
                    )
                if not key and section != PRESET:
                    raise self._error(
                        f"{where}.{name}: write a setting with its section, such as "
                        "training.epsilon_high"
                    )
                inner.check(put({}, name, value))

    def _check_stop(self, stop: Tree) -> None:
        for name, value in flat_metrics(stop).items():
            if name in STOP_RULES:
                for problem in check_stop_rule(name, value):
                    raise self._error(problem)
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise self._error(f"stop.{name}={value!r} must be a number")
            if not math.isfinite(value):
                raise self._error(f"stop.{name}={value!r} must be finite: leave it out for no end")
            if name in _RLLIB_METRICS and value <= 0:
                raise self._error(f"stop.{name}={value!r} must be over 0")
            if name == "training_iteration" and value != int(value):
                raise self._error(f"stop.{name}={value!r} must be a whole number")
            self._check_metric(name, f"stop.{name}")

    def _check_metric(self, name: str, where: str) -> None:
        """Refuses a metric that nobody reports: Tune would wait for it without end."""
        name = name.removeprefix("evaluation/")
        if name.startswith(_NAMED_BY_USERS):
            return

        reported = (f"{metric.source}/{metric.name}" for metric in METRICS)
        known = [*STOP_RULES, *_RLLIB_METRICS, *reported]
        # A metric with a slash may be a user's own, unless it looks like a misspelling of ours.
        if name not in known and ("/" not in name or suggest(name, known)):
            raise self._error(f"{where}: no such metric{suggest(name, known)}")


def flat_metrics(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """Metric names as Tune writes them, from nested or dotted ones."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = prefix + name.replace(".", "/")
        flat |= flat_metrics(value, f"{path}/") if isinstance(value, dict) else {path: value}
    return flat


def _is_range(values: list[Any], *, above_zero: bool) -> bool:
    numbers = [value for value in values if is_number(value) and math.isfinite(value)]
    if len(values) != 2 or len(numbers) != 2:
        return False
    low, high = numbers
    return low < high and (low > 0 or not above_zero)
