"""A run file, parsed once: what it says, with its bases under it and `--set` on top.

Sections are `DAPOConfig`'s methods, keys their arguments. Beside those sections a file may hold

- `base`: another run file or preset to build on; what is written over it wins,
- `preset`: the objective that the sections build on: dapo, grpo or ppo,
- `search`: dotted names and their search spaces, and `seeds` for every point,
- `variants`: named sets of dotted names and values, each tried as one trial,
- `tune`: see `TuneSettings`,
- `stop`: metrics and the values at which a trial ends, and `StopRules`,
- `datasets`: for `rllib-dapo evaluate`, several data sets in one go.

Nothing is loaded or started here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.objective_presets import PRESETS
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.run.layers import (
    DATA_SETS,
    KEYED,
    data_hint,
    file_layers,
    merge_layers,
    put_overrides,
    read_overrides,
)
from rllib_dapo.run.origins import Origins, make_origins
from rllib_dapo.run.run_file_checks import RunFileChecks
from rllib_dapo.run.search.clip_bounds import check_bounds
from rllib_dapo.run.search.paired_seeds import SEEDS, check_pairs, listed_seeds
from rllib_dapo.run.search.stoppers import STOP_RULES, StopRules, check_stop_rules
from rllib_dapo.run.tune_settings import (
    TuneSettings,
    check_run_name,
    check_sweep,
    tune_settings,
)
from rllib_dapo.run.yaml_file import PRESET, Tree, put_all

_OF_NO_TRIAL = (*KEYED, "tune", DATA_SETS)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFile:
    """All that a run file and its overrides say; names and kinds are checked, values are not.

    Attributes:
        name: Name of the run.
        source: The file, for messages.
        sections: Section to settings, for `config_class`; `preset` is among them.
        search: Dotted name to search space.
        seeds: Seeds under which every point of the search runs; none for each point's own one.
        variants: Name to settings by dotted name.
        tune: Section `tune`.
        stop: Metric to the value at which a trial ends, as Tune names metrics.
        rules: What else ends a trial.
        data_sets: Section `datasets`.
        by_hand: Dotted name to value of what `--set` gave for the sections. It also holds for every
            variant.
        data_hint: Where the file says that its data comes from.
        notes: What a user should know, each in one line.
        config_class: Configuration whose methods are the sections.
        origins: Where each setting was given.
    """

    name: str
    source: str
    sections: Tree
    search: Tree
    variants: Tree
    tune: TuneSettings
    stop: Mapping[str, float]
    rules: StopRules
    seeds: tuple[int, ...] = ()
    data_sets: Any = None
    by_hand: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data_hint: str = ""
    notes: tuple[str, ...] = ()
    config_class: type[DAPOConfig] = DAPOConfig
    origins: Origins = dataclasses.field(default_factory=lambda: Origins(file=""))

    def configuration(self, *changes: Mapping[str, Any], variant: str | None = None) -> DAPOConfig:
        """A configuration from the sections.

        Args:
            *changes: Values by dotted name, put on top of the sections one after the other.
            variant: Name of the variant that the changes are of.

        Raises:
            SettingsError: If a method refuses what it is given.
        """
        sections = reduce(put_all, map(dict, changes), self.sections)
        config = PRESETS[sections.get(PRESET, "dapo")](self.config_class())
        config.variant = variant

        apply_sections(
            config,
            sections,
            self.source,
            blame=lambda finding: self.origins.blame(finding, variant=variant),
        )
        return config


def read_run_file(
    path: Path, overrides: Sequence[str] = (), *, config_class: type[DAPOConfig] = DAPOConfig
) -> RunFile:
    """Reads a run file.

    Args:
        path: The YAML file.
        overrides: Texts `dotted.name=value`, as after `--set`; they win over the file.
        config_class: Configuration whose methods are the sections.

    Raises:
        SettingsError: If the file cannot be read, or a name or the kind of a value in it is wrong.
    """
    layers = file_layers(path)
    tree = merge_layers(layers, config_class)
    by_hand = read_overrides(overrides)
    tree = put_overrides(tree, by_hand, config_class)

    for problem in check_run_name(path.stem, "the run's name"):
        if not tree.get("tune", {}).get("name"):
            raise SettingsError(f"{path}: {problem}; or set tune.name")
    return take_apart(
        tree,
        name=path.stem,
        source=layers[-1].source,
        by_hand={o.name: o.value for o in by_hand if o.section not in _OF_NO_TRIAL},
        data_hint=data_hint(layers),
        notes=[note for layer in layers for note in layer.notes],
        config_class=config_class,
        origins=make_origins(layers, by_hand),
    )


def take_apart(
    tree: Tree,
    *,
    name: str,
    source: str,
    by_hand: Mapping[str, Any] = MappingProxyType({}),
    data_hint: str = "",
    notes: Sequence[str] = (),
    config_class: type[DAPOConfig] = DAPOConfig,
    origins: Origins | None = None,
) -> RunFile:
    """Takes a merged tree apart into what each section is for, and checks these against each other.

    Args:
        tree: Section to settings; names and kinds are checked.
        name: Name of the run, if section `tune` has none.
        source: The file, for messages.
        by_hand: See `RunFile`, as for the rest.
        data_hint: Where the file says that its data comes from.
        notes: What a user should know.
        config_class: Configuration whose methods are the sections.
        origins: Where each setting was given; by default all of them in `source`.

    Raises:
        SettingsError: For the first finding.
    """
    origins = origins or Origins(file=source)
    sections = dict(tree)
    search, variants = dict(sections.pop("search", {})), sections.pop("variants", {})
    first_seed = sections.get("debugging", {}).get("seed")
    given_seeds = search.pop(SEEDS, None)
    seeds = listed_seeds(given_seeds, first=first_seed)
    RunFileChecks(source, config_class).check_overlap(search, variants)
    _check_bounds(search, source, origins)

    stop = dict(sections.pop("stop", {}))
    rules = StopRules(**{rule: stop.pop(rule) for rule in STOP_RULES if rule in stop})
    tuning = tune_settings(sections.pop("tune", {}))
    sweep = check_sweep(
        tuning,
        search=search,
        has_variants=bool(variants),
        iterations=stop.get("training_iteration"),
        evaluation_interval=sections.get("evaluation", {}).get("evaluation_interval"),
    )
    pairs = check_pairs(
        seeds,
        search=search,
        variants=variants,
        scheduler=str(tuning.scheduler.get("type")),
        searcher=str(tuning.searcher.get("type")),
        num_samples=tuning.num_samples,
        unread_seed=by_hand.get("debugging.seed") if isinstance(given_seeds, list) else None,
    )
    for problem in chain(check_stop_rules(rules), sweep, pairs):
        raise SettingsError(origins.blame(problem))

    return RunFile(
        name=tuning.name or name,
        source=source,
        data_sets=sections.pop(DATA_SETS, None),
        sections=sections,
        search=search,
        seeds=seeds,
        variants=variants,
        tune=tuning,
        stop=stop,
        rules=rules,
        by_hand=by_hand,
        data_hint=data_hint,
        notes=tuple(notes),
        config_class=config_class,
        origins=origins,
    )


def apply_sections(
    config: DAPOConfig,
    sections: Tree,
    source: str,
    *,
    blame: Callable[[str], str] | None = None,
) -> None:
    """Calls the method of each section with its settings.

    Args:
        config: Configuration to change.
        sections: Section to settings.
        source: Where they stand, for messages.
        blame: Puts the source of a finding in front of it; by default `source`.

    Raises:
        SettingsError: If a method refuses what it is given.
    """
    for section, settings in sections.items():
        if section == PRESET:
            continue
        try:
            getattr(config, section)(**settings)
        except (ValueError, TypeError, AttributeError) as error:
            finding = f"{section}: {one_line(error)}"
            told = f"{source}: {finding}" if blame is None else blame(finding)
            raise SettingsError(told) from error


def _check_bounds(search: Tree, source: str, origins: Origins) -> None:
    try:
        check_bounds(search, source)
    except SettingsError as error:
        raise SettingsError(origins.blame(str(error).removeprefix(f"{source}: "))) from None
