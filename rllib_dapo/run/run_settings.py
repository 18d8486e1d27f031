"""What a run is made of: configurations of trials, built from a run file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.findings import SettingsError
from rllib_dapo.models.model_names import BUILT_IN
from rllib_dapo.run.environments import resolve_environment
from rllib_dapo.run.layers import DATA_SETS
from rllib_dapo.run.origins import Origins
from rllib_dapo.run.run_file import RunFile, read_run_file
from rllib_dapo.run.run_record import RunRecord, make_record
from rllib_dapo.run.search.clip_bounds import admissible, join_bounds
from rllib_dapo.run.search.paired_seeds import holds_draws
from rllib_dapo.run.search.stoppers import StopRules
from rllib_dapo.run.search.variants import followers, grid_of_variants
from rllib_dapo.run.tune_settings import TuneSettings
from rllib_dapo.run.yaml_file import Tree, put_all

_SPACES: Mapping[str, Callable[[Any], Any]] = {
    "grid": tune.grid_search,
    "choice": tune.choice,
    "uniform": lambda bounds: tune.uniform(*bounds),
    "loguniform": lambda bounds: tune.loguniform(*bounds),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """A run that can be checked and started.

    Attributes:
        name: Name of the run.
        source: The run file, for messages.
        config: Configuration of the trials; values to be searched are Tune's search spaces.
        checked: Configurations without search spaces which between them hold every variant and the
            ends of every space.
        followers: Attributes of the configuration that the name of a variant decides.
        stop: Metric to the value at which a trial ends, as Tune names metrics.
        rules: What else ends a trial.
        tune: Section `tune`.
        search: Section `search`: dotted names and their spaces.
        seeds: Seeds under which every point runs; none for each point's own one.
        data_hint: Where the file says that its data comes from.
        notes: What a user should know, each in one line.
        origins: Where each setting was given.
        kept: What is kept of all this in the run's folder; None where there is no run.
    """

    name: str
    source: str
    config: DAPOConfig
    checked: tuple[DAPOConfig, ...]
    stop: Mapping[str, float]
    tune: TuneSettings
    origins: Origins
    rules: StopRules = dataclasses.field(default_factory=StopRules)
    search: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    followers: tuple[str, ...] = ()
    data_hint: str = ""
    notes: tuple[str, ...] = ()
    kept: RunRecord | None = None

    @property
    def record(self) -> RunRecord:
        """What is kept of all this in the run's folder."""
        assert self.kept is not None, "what `build` has not made is no run that could be kept"
        return self.kept


def read_settings(path: Path, overrides: Sequence[str] = ()) -> RunSettings:
    """Reads a run file and builds what it describes; see `read_run_file` and `build`."""
    return build(read_run_file(path, overrides))


def build(run_file: RunFile) -> RunSettings:
    """Builds the configurations that a run file describes. Nothing is loaded or started.

    Args:
        run_file: As it was read.

    Raises:
        SettingsError: If a section refuses what it is given, or an environment does not exist.
    """
    if run_file.data_sets is not None:
        raise SettingsError(
            f"{run_file.source}: section {DATA_SETS!r} makes this a file for `rllib-dapo evaluate "
            "MODEL --file FILE`; training takes one environment, in section environment"
        )
    try:
        run_file = dataclasses.replace(run_file, sections=ready(run_file.sections))
        by_hand = ready_values(run_file.by_hand)
    except SettingsError as error:
        raise SettingsError(run_file.origins.blame(str(error))) from error
    search = run_file.search
    variants = dict(run_file.variants) or {"": {}}  # a run without variants has one, without a name

    # Checked are the ends of every space; what Tune draws from is put over the first of them.
    corners = list(_corners(search))
    is_random = run_file.tune.searcher["type"] == "random"
    spaces = {name: _space(space) for name, space in search.items()} if is_random else {}
    configs, checked = {}, []
    for name, changes in variants.items():
        variant = name or None
        given = (ready_values(changes), by_hand)
        configs[name] = run_file.configuration(*given, corners[0] | spaces, variant=variant)
        checked += [run_file.configuration(*given, ends, variant=variant) for ends in corners]

    # Both clip bounds are drawn together, so that no pair is drawn that would be refused.
    joined = join_bounds(search) if spaces else {}
    for config in configs.values():
        for attribute, space in joined.items():
            setattr(config, attribute, space)
    following = followers(configs) if run_file.variants else ()
    if run_file.seeds:
        _refuse_own_draws(configs, following, run_file)
        for config in configs.values():
            config.seed = tune.grid_search(list(run_file.seeds))

    return RunSettings(
        name=run_file.name,
        source=run_file.source,
        config=grid_of_variants(configs) if run_file.variants else configs[""],
        checked=tuple(checked),
        stop=run_file.stop,
        rules=run_file.rules,
        tune=run_file.tune,
        search=search,
        seeds=run_file.seeds,
        followers=following,
        data_hint=run_file.data_hint,
        notes=run_file.notes,
        origins=run_file.origins,
        kept=make_record(run_file),
    )


def _refuse_own_draws(
    configs: Mapping[str, DAPOConfig], following: Sequence[str], run_file: RunFile
) -> None:
    """Refuses what Tune would draw anew for each seed: draws inside of what a variant decides."""
    drawn = [name for name in following if holds_draws(getattr(next(iter(configs.values())), name))]
    if drawn:
        raise SettingsError(
            run_file.origins.blame(
                f"search.seeds: variants decide {drawn[0]}, and what is drawn inside of it would "
                "differ between the seeds of a point: give a grid there, or leave the seeds out"
            )
        )


def ready(sections: Tree) -> Tree:
    """Sections with what depends on where this process runs: absolute paths, environments found.

    Ray's workers run in other folders.

    Args:
        sections: Section to settings.

    Raises:
        SettingsError: If there is no such environment.
    """
    found = {name: _value_at(sections, name) for name in _LOCAL}
    return put_all(sections, ready_values({k: v for k, v in found.items() if v is not None}))


def ready_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same as `ready` for values by dotted name."""
    return {name: _LOCAL.get(name, _unchanged)(value) for name, value in values.items()}


def absolute_path(path: Any) -> Any:
    """A path, or each of a list of paths, as seen from here; anything else as it is."""
    if isinstance(path, list):
        return [absolute_path(one) for one in path]
    return str(Path(path).expanduser().absolute()) if isinstance(path, str) else path


def _local_model(name: Any) -> Any:
    is_built_in = name in BUILT_IN
    is_folder = isinstance(name, str) and not is_built_in and Path(name).expanduser().is_dir()
    return absolute_path(name) if is_folder else name


def _local_env_config(settings: Any) -> Any:
    if not isinstance(settings, dict) or "path" not in settings:
        return settings
    return {**settings, "path": absolute_path(settings["path"])}


def _local_evaluation_config(settings: Any) -> Any:
    if not isinstance(settings, dict) or "env_config" not in settings:
        return settings
    return {**settings, "env_config": _local_env_config(settings["env_config"])}


def _unchanged(value: Any) -> Any:
    return value


_LOCAL: Mapping[str, Callable[[Any], Any]] = {
    "language_model.name": _local_model,
    "deepspeed.config": absolute_path,
    "environment.env": resolve_environment,
    "environment.env_config": _local_env_config,
    "environment.env_config.path": absolute_path,
    "evaluation.evaluation_config": _local_evaluation_config,
    "evaluation.evaluation_config.env_config": _local_env_config,
    "evaluation.evaluation_config.env_config.path": absolute_path,
}


def _value_at(tree: Tree, name: str) -> Any:
    value: Any = tree
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _space(space: Mapping[str, Any]) -> Any:
    kind, values = next(iter(space.items()))
    return _SPACES[kind](values)


def _corners(search: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each end of each space in turn, with the first value of all others.

    One clip bound may rule out the first value of the other, which then is the nearest that fits.
    """
    ends = {name: next(iter(space.values())) for name, space in search.items()}
    first = {name: values[0] for name, values in ends.items()}
    yield admissible(first, search)
    for name, values in ends.items():
        for value in values[1:]:
            yield admissible({**first, name: value}, search)
