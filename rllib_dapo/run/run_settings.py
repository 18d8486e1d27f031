"""What a run file means: sections are `DAPOConfig`'s methods, keys their arguments.

Beside those sections a file may hold `preset` (whose objective the sections build on: dapo, grpo or
ppo), `search` (dotted names and their search spaces), `variants` (named sets of dotted names and
values, each tried as one trial), `tune` (see `TuneSettings`) and `stop` (metrics and the values at
which a trial ends, and `run.stoppers.StopRules`). Nothing is loaded or started here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from rllib_dapo.config.dapo_config import PRESETS, DAPOConfig
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.models.model_names import SMOLLM2, TINY
from rllib_dapo.run.environments import resolve_environment
from rllib_dapo.run.search.clip_bounds import admissible, check_bounds, join_bounds
from rllib_dapo.run.search.schedulers import PBT_KEEPS, check_scheduler
from rllib_dapo.run.search.searchers import check_searcher
from rllib_dapo.run.search.stoppers import STOP_RULES, StopRules, check_stop_rules
from rllib_dapo.run.search.variants import followers, grid_of_variants
from rllib_dapo.run.section_checks import TuneSettings, check_names, check_overlap, flat_metrics
from rllib_dapo.run.yaml_file import Tree, parse_override, put, read_run_file

_SPACES: Mapping[str, Callable[[Any], Any]] = {
    "grid": tune.grid_search,
    "choice": tune.choice,
    "uniform": lambda bounds: tune.uniform(*bounds),
    "loguniform": lambda bounds: tune.loguniform(*bounds),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """All that a run file and its overrides say.

    Attributes:
        name: Of the run.
        source: The file, for messages.
        config: The trials' configuration; values to be searched are Tune's search spaces.
        checked: Configurations without search spaces which between them hold every variant and the
            ends of every space.
        followers: Attributes of the configuration that the name of a variant decides.
        stop: Metric to the value at which a trial ends, as Tune names metrics.
        rules: What else ends a trial.
        tune: Section `tune`.
        search: Section `search`: dotted names and their spaces.
        data_hint: Where the file says that its data is to be had.
    """

    name: str
    source: str
    config: DAPOConfig
    checked: tuple[DAPOConfig, ...]
    stop: Mapping[str, float]
    tune: TuneSettings
    rules: StopRules = dataclasses.field(default_factory=StopRules)
    search: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    followers: tuple[str, ...] = ()
    data_hint: str = ""


def read_settings(path: Path, overrides: Sequence[str] = ()) -> RunSettings:
    """Reads a run file.

    Args:
        path: The YAML file.
        overrides: Texts `dotted.name=value`, as after `--set`; they win over the file.

    Raises:
        SettingsError: If the file cannot be read, or a name or the kind of a value in it is wrong.
    """
    source = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    tree, data_hint = read_run_file(path)
    check_names(tree, source)
    by_hand: dict[str, Any] = {}
    for override in overrides:
        tree, value = _override(tree, override)
        by_hand |= value
    check_overlap(tree, source)
    search = tree.pop("search", {})
    check_bounds(search, source)
    variants = tree.pop("variants", {})
    stop = tree.pop("stop", {})
    rules = StopRules(**{rule: stop.pop(rule) for rule in STOP_RULES if rule in stop})
    stop = flat_metrics(stop)
    tuning = _tune_settings(tree.pop("tune", {}))
    for problem in (
        *check_stop_rules(rules),
        *_check_sweep(tuning, tree, search, bool(variants), stop),
    ):
        raise SettingsError(f"{source}: {problem}")
    names: list[Any] = list(variants) or [None]
    trees = {name: _ready(_with(_with(tree, variants.get(name, {})), by_hand)) for name in names}
    corners = list(_corners(search))
    drawn = (
        {name: _space(space) for name, space in search.items()}
        if tuning.searcher["type"] == "random"
        else {}
    )
    joined = join_bounds(search) if drawn else {}
    configs = {name: _build(tree, corners[0] | drawn, source, name) for name, tree in trees.items()}
    for config in configs.values():
        for attribute, space in joined.items():
            setattr(config, attribute, space)
    return RunSettings(
        name=tuning.name or path.stem,
        source=source,
        config=grid_of_variants(configs) if variants else configs[None],
        checked=tuple(
            _build(tree, ends, source, name) for name, tree in trees.items() for ends in corners
        ),
        stop=stop,
        rules=rules,
        tune=tuning,
        search=search,
        followers=followers(configs) if variants else (),
        data_hint=data_hint,
    )


def _tune_settings(given: Tree) -> TuneSettings:
    """The section `tune`, with a checkpoint more where trials take over each other's."""
    tuning = TuneSettings(**given)
    tuning = dataclasses.replace(tuning, metric=tuning.metric.replace(".", "/"))
    if tuning.scheduler.get("type") == "pbt" and "num_to_keep" not in given:
        tuning = dataclasses.replace(tuning, num_to_keep=PBT_KEEPS)
    return tuning


def _check_sweep(
    tuning: TuneSettings, tree: Tree, search: Tree, has_variants: bool, stop: Mapping[str, float]
) -> Iterator[str]:
    """Findings on scheduler and searcher, beside the rest of the file."""
    yield from check_scheduler(
        tuning.scheduler,
        iterations=stop.get("training_iteration"),
        searched=list(search),
        has_variants=has_variants,
        metric=tuning.metric,
        evaluation_interval=tree.get("evaluation", {}).get("evaluation_interval"),
    )
    yield from check_searcher(
        tuning.searcher,
        search=search,
        scheduler=str(tuning.scheduler.get("type")),
        has_variants=has_variants,
        metric=tuning.metric,
    )
    if (
        tuning.scheduler.get("type") == "pbt"
        and 0 < tuning.max_concurrent_trials < tuning.num_samples
    ):
        yield (
            f"tune.max_concurrent_trials={tuning.max_concurrent_trials} must be 0 with pbt: its trials take turns, and "
            "one that is paused counts"
        )
    if tuning.scheduler.get("type") == "pbt" and tuning.num_to_keep < PBT_KEEPS:
        yield (
            f"tune.num_to_keep={tuning.num_to_keep} must be at least {PBT_KEEPS} with pbt: a trial's checkpoint is "
            "taken over by others"
        )


def _override(tree: Tree, text: str) -> tuple[Tree, Tree]:
    """The tree with an override in it, and the override again if it is one of the configuration."""
    name, value = parse_override(text)
    source = f"--set {text}"
    section, _, key = name.partition(".")
    if section in (
        "search",
        "stop",
        "variants",
    ):  # their keys are dotted names, or names of one's own
        content = {section: {**tree.get(section, {}), key: value}}
        check_names({section: {key: value}}, source)
        return {**tree, **content}, {}
    check_names(put({}, name, value), source)
    tree = put(tree, name, value)
    if section == "tune":
        return tree, {}
    # What is given by hand is not searched for.
    if "search" in tree:
        tree["search"] = {key: space for key, space in tree["search"].items() if key != name}
    return tree, {name: value}


def _with(tree: Tree, values: Mapping[str, Any]) -> Tree:
    for name, value in values.items():
        tree = put(tree, name, value)
    return tree


def _space(space: Tree) -> Any:
    kind, values = next(iter(space.items()))
    return _SPACES[kind](values)


def _corners(search: Tree) -> Iterator[dict[str, Any]]:
    """Each end of each space in turn, with the first value of all others, or one of a bound that suits the other's."""
    ends = {name: next(iter(space.values())) for name, space in search.items()}
    first = {name: values[0] for name, values in ends.items()}
    yield admissible(first, search)
    for name, values in ends.items():
        for value in values[1:]:
            yield admissible({**first, name: value}, search)


def _build(tree: Tree, values: Mapping[str, Any], source: str, variant: str | None) -> DAPOConfig:
    """A configuration from sections and from values at dotted names."""
    config = PRESETS[tree.get("preset", "dapo")](DAPOConfig())
    config.variant = variant
    if variant is not None:
        source = f"{source}: variants.{variant}"
    for section, settings in _with(tree, values).items():
        if section == "preset":
            continue
        try:
            getattr(config, section)(**settings)
        except (ValueError, TypeError, AttributeError) as error:
            raise SettingsError(f"{source}: {section}: {one_line(error)}") from error
    return config


def _ready(tree: Tree) -> Tree:
    """With what depends on where we are: files as seen from here, and an environment's name resolved."""
    tree = _with_absolute_paths(tree)
    if "env" in tree.get("environment", {}):
        tree = put(tree, "environment.env", resolve_environment(tree["environment"]["env"]))
    return tree


def _with_absolute_paths(tree: Tree) -> Tree:
    """Files as seen from here: Ray's workers run in other folders."""
    tree = dict(tree)
    model = tree.get("language_model", {}).get("name")
    if (
        isinstance(model, str)
        and model not in (TINY, SMOLLM2)
        and Path(model).expanduser().is_dir()
    ):
        tree = put(tree, "language_model.name", str(Path(model).expanduser().absolute()))
    if isinstance(tree.get("deepspeed", {}).get("config"), str):
        tree = put(tree, "deepspeed.config", _absolute(tree["deepspeed"]["config"]))
    for name in ("environment.env_config", "evaluation.evaluation_config.env_config"):
        section, *inner = name.split(".")
        settings = tree.get(section, {})
        for key in inner:
            settings = settings.get(key) or {}
        if isinstance(settings, dict) and "path" in settings:
            tree = put(tree, f"{name}.path", _absolute(settings["path"]))
    return tree


def _absolute(path: Any) -> Any:
    if isinstance(path, list):
        return [_absolute(one) for one in path]
    return str(Path(path).expanduser().absolute()) if isinstance(path, str) else path
