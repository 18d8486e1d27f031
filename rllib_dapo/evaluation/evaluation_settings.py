"""What `rllib-dapo evaluate` is asked to do: a model, data sets, and how to sample."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.evaluation.evaluation_sampler import Environment
from rllib_dapo.evaluation.settings_of_run import (
    SettingsOfRun,
    differences,
    find_environment,
    read_settings_of_run,
    with_objects,
)
from rllib_dapo.findings import SettingsError, one_line, suggest
from rllib_dapo.learner.model_folder import MODULE_PATH
from rllib_dapo.run.layers import (
    DATA_SETS,
    Layer,
    Override,
    check_tree,
    data_hint,
    file_layers,
    merge_layers,
    put_overrides,
    read_overrides,
)
from rllib_dapo.run.origins import Origins, make_origins
from rllib_dapo.run.run_file import RunFile, apply_sections, take_apart
from rllib_dapo.run.run_settings import absolute_path
from rllib_dapo.run.yaml_file import Tree, put

# Sections of a run file that say something about an evaluation; the others are training's.
SECTIONS = (
    "environment",
    "language_model",
    "rollout",
    "evaluation",
    "env_runners",
    "resources",
    "fault_tolerance",
    "debugging",
)
SAMPLES = 32  # the recipe's, as are DAPOConfig's temperature and top_p of evaluations
K_SETTING = "evaluation.evaluation_samples_per_prompt"
# The options of the commands that are settings: of `evaluate`, and of `sample`.
OPTIONS = {
    K_SETTING: "--k",
    "evaluation.evaluation_temperature": "--temperature",
    "evaluation.evaluation_top_p": "--top-p",
    "evaluation.evaluation_num_prompts": "--limit",
    "debugging.seed": "--seed",
    "env_runners.num_env_runners": "--num-env-runners",
    "rollout.temperature": "--temperature",
    "rollout.top_p": "--top-p",
    "rollout.max_response_tokens": "--max-tokens",
}
# What says how and when a run evaluates. With it, the problems that are asked would be refused as
# those that are trained on, since both would be the same.
_OF_TRAINING = ("evaluation_config", "evaluation_interval", "evaluate_before_training")
_DATA_SET_KEYS = ("env", "env_config", "limit")
_NAME = re.compile(r"[\w+-]+", re.ASCII)
_NOT_IN_A_NAME = re.compile(r"[^\w+-]+", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """One data set.

    Attributes:
        name: Name of its folder, its panel and its row.
        environment: Its own environment, with what is shared already merged in.
        limit: Largest number of problems to ask; None for all that there are.
    """

    name: str
    environment: Environment
    limit: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationSettings:
    """All that was asked for.

    Attributes:
        model: The model as it was named.
        place: What to load: `model`, or the folder on this machine where that is a URI.
        checkpoint: The folder, where it is a checkpoint of a run.
        source: The file, or the command, for messages.
        config: Configuration that all data sets share; it has no environment yet.
        data_sets: At least one.
        given: By dotted name of the settings that somebody has given: the file or the option.
        of_run: What is known of the run that the model is from.
        different: Settings that are not those of that run, and both values.
        data_hint: Where the file says that its data comes from.
        origins: Where each setting was given.
    """

    model: str
    place: str
    checkpoint: Path | None
    source: str
    config: DAPOConfig
    data_sets: tuple[DataSet, ...]
    given: Mapping[str, str]
    of_run: SettingsOfRun
    different: tuple[str, ...]
    data_hint: str
    origins: Origins

    def is_asked_for(self, setting: str) -> bool:
        """Whether a setting was given for this evaluation: not by the run, and not by default."""
        return self.given.get(setting, self.of_run.source) != self.of_run.source


def read_evaluation(
    model: str,
    *,
    file: Path | None = None,
    envs: Sequence[str] = (),
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    place: Path | None = None,
) -> EvaluationSettings:
    """Reads what is to be evaluated, and how.

    Options win over `--set`, that over the file, and that over the settings of the run that a
    checkpoint is from.

    Args:
        model: A checkpoint, a model folder, a hub name or a built-in name.
        file: A YAML file.
        envs: Environments, in place of those of file and run.
        overrides: Texts `dotted.name=value`, as after `--set`.
        options: Settings by dotted name.
        place: Folder on this machine that has what `model` names, where that is a URI.

    Raises:
        SettingsError: If something cannot be read, or a name or the kind of a value is wrong.
    """
    named = str(place or model)
    checkpoint = Path(named).expanduser().absolute() if is_checkpoint(named) else None
    of_run = read_settings_of_run(named, checkpoint)
    of_file = [] if file is None else [_of_evaluation(layer) for layer in file_layers(file)]
    # The run's environment goes as a whole where the file names another one, or data sets.
    run_tree = of_run.tree
    if any(_names_environment(layer.tree) for layer in of_file):
        run_tree = _without_environment(run_tree)

    source = of_file[-1].source if of_file else "evaluate"
    layers = [Layer(tree=run_tree, source=of_run.source), *of_file]
    by_hand = [*_overrides(overrides), *_options(options or {})]

    defaults = Layer(tree={"evaluation": {"evaluation_samples_per_prompt": SAMPLES}}, source=source)
    tree = merge_layers([defaults, *layers])
    tree = _only(tree, envs) if envs else tree
    tree = put_overrides(tree, by_hand)
    different = differences(of_run.tree, tree)
    if _has_environment_of(of_run, tree):
        tree = _with_objects_of_run(tree, of_run)
    elif of_run.environment is not None:
        different.insert(
            0, f"another environment ({of_run.environment!r} in the run), with none of its settings"
        )
    run_file = take_apart(
        tree,
        name=model,
        source=source,
        data_hint=data_hint(layers),
        origins=make_origins(layers, by_hand),
    )

    return EvaluationSettings(
        model=model,
        place=named,
        checkpoint=checkpoint,
        source=source,
        config=_config(run_file, named if checkpoint is None else str(checkpoint / MODULE_PATH)),
        data_sets=_data_sets(run_file, of_run),
        given={**run_file.origins.by_file, **{one.name: one.source for one in by_hand}},
        of_run=of_run,
        different=tuple(different),
        data_hint=run_file.data_hint,
        origins=run_file.origins,
    )


def is_checkpoint(model: str) -> bool:
    """Whether a folder is a checkpoint of `DAPO` rather than a model."""
    return (Path(model).expanduser() / MODULE_PATH / "config.json").is_file()


def short_name(env: Any) -> str:
    """`Math-v0` for `rllib_dapo/Math-v0`, `MyEnv` for `my_module:MyEnv`."""
    text = env if isinstance(env, str) else env.__qualname__
    return _NOT_IN_A_NAME.sub("-", re.split("[/:]", text)[-1])


def _of_evaluation(layer: Layer) -> Layer:
    """Without the sections of training, once their names are checked."""
    check_tree(layer.tree, layer.source)
    kept = (*SECTIONS, DATA_SETS)
    tree = {section: content for section, content in layer.tree.items() if section in kept}
    return Layer(tree=tree, source=layer.source, data_hint=layer.data_hint)


def _overrides(texts: Sequence[str]) -> list[Override]:
    overrides = read_overrides(texts)
    for override in overrides:
        check_tree(override.tree, override.source)
        if override.section not in (*SECTIONS, DATA_SETS):
            raise SettingsError(
                f"{override.source}: {override.section} has no part in an evaluation; these have: "
                f"{', '.join(SECTIONS)}, {DATA_SETS}"
            )
    return overrides


def _options(options: Mapping[str, Any]) -> list[Override]:
    return [
        Override(name=name, value=value, source=f"{OPTIONS[name]} {value}")
        for name, value in options.items()
    ]


def _has_environment_of(of_run: SettingsOfRun, tree: Tree) -> bool:
    """Whether the environment that the run evaluated on is among those that are asked for."""
    return of_run.environment is not None and _evaluated(tree) == of_run.environment


def _evaluated(tree: Tree) -> Any:
    """The environment that a run with these settings would evaluate on."""
    changed = tree.get("evaluation", {}).get("evaluation_config") or {}
    return changed.get("env") or tree.get("environment", {}).get("env")


def _with_objects_of_run(tree: Tree, of_run: SettingsOfRun) -> Tree:
    """With the classes and functions that the run's environment had in its settings.

    Raises:
        SettingsError: If one is neither there nor given otherwise.
    """
    given = dict(_dotted_names(tree))
    for name, what in of_run.left_out.items():
        if name.startswith(("environment.", "evaluation.evaluation_config.")) and name not in given:
            raise SettingsError(
                f"{of_run.source}: {name} was {what} in the run and is not in the file: give it "
                f"with --set {name}=..., or name an environment with --env and its settings"
            )

    for section, name in (("environment", ""), ("evaluation", "evaluation_config")):
        holder = tree.get(section, {})
        holder = holder.get(name) or {} if name else holder
        stored = of_run.tree.get(section, {})
        stored = stored.get(name) or {} if name else stored
        dotted = ".".join(filter(None, (section, name, "env_config")))
        if "env_config" in holder:
            settings = with_objects(
                holder["env_config"], stored.get("env_config"), dotted, of_run.source
            )
            tree = put(tree, dotted, settings)
    return tree


def _dotted_names(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names of settings at every depth."""
    for name, value in tree.items():
        yield f"{prefix}{name}", value
        if isinstance(value, Mapping):
            yield from _dotted_names(value, f"{prefix}{name}.")


def _names_environment(tree: Tree) -> bool:
    return DATA_SETS in tree or "env" in (tree.get("environment") or {})


def _without_environment(tree: Tree) -> Tree:
    kept = {name: inner for name, inner in tree.items() if name not in ("environment", DATA_SETS)}
    evaluation = kept.get("evaluation", {})
    if "evaluation_config" in evaluation:
        rest = {name: value for name, value in evaluation.items() if name != "evaluation_config"}
        kept["evaluation"] = rest
    return kept


def _only(tree: Tree, envs: Sequence[str]) -> Tree:
    """With these environments. Naming the one that is known already keeps its settings."""
    names = [short_name(env) for env in envs]
    if len(set(names)) < len(names):
        twice = max(names, key=names.count)
        raise SettingsError(
            f"--env: two are called {twice!r}: name them in a file, as `{DATA_SETS}`"
        )
    if _evaluated(tree) not in envs:
        tree = _without_environment(tree)
    return {**tree, DATA_SETS: {name: {"env": env} for name, env in zip(names, envs, strict=True)}}


def _config(run_file: RunFile, model: str) -> DAPOConfig:
    """The configuration that all data sets share."""
    # What only training looks at must not stand in the way.
    config = DAPOConfig().overlong(buffer_tokens=0)
    sections = {name: run_file.sections[name] for name in SECTIONS if name in run_file.sections}
    sections.pop("environment", None)
    evaluation = sections.get("evaluation", {})
    sections["evaluation"] = {n: v for n, v in evaluation.items() if n not in _OF_TRAINING}
    apply_sections(config, sections, run_file.source, blame=run_file.origins.blame)

    if "num_env_runners" not in sections.get("env_runners", {}):
        config.env_runners(num_env_runners=0)
    # The engines are all there is; with EnvRunners, this process only waits for them.
    config.learners(num_learners=0, num_cpus_per_learner=0, num_gpus_per_learner=0)
    config.rollout(colocate=False, shared_engine=False)  # nobody to share with
    config.resources(num_cpus_for_main_process=0 if config.num_env_runners else 1)
    return config.language_model(model)


def _data_sets(run_file: RunFile, of_run: SettingsOfRun) -> tuple[DataSet, ...]:
    source, listed = run_file.source, run_file.data_sets
    shared_env, shared_config = _shared_environment(run_file)
    limit = run_file.sections["evaluation"].get("evaluation_num_prompts")
    if listed is None:
        if shared_env is None:
            what = of_run.left_out.get("environment.env", "")
            was = f" The run's was {what}, which the checkpoint cannot hold." if what else ""
            raise SettingsError(
                "which environment? name one: --env rllib_dapo/Math-v0, or --file with "
                f"environment.env.{was}"
            )
        listed = {short_name(shared_env): {}}
    if not isinstance(listed, dict) or not listed:
        raise SettingsError(
            f"{source}: {DATA_SETS}={listed!r} must be names with {{env, env_config, limit}} under "
            "them"
        )

    data_sets = []
    for name, given in listed.items():
        given = {} if given is None else given
        where = f"{source}: {DATA_SETS}.{name}"
        _check_data_set(name, given, where)
        env = given.get("env", shared_env)
        if env is None:
            raise SettingsError(f"{where}: has no env, and environment.env is not set")

        is_shared = shared_env is None or env == shared_env
        settings = {**(shared_config if is_shared else {}), **(given.get("env_config") or {})}
        if "path" in settings:  # Ray's workers run in other folders
            settings["path"] = absolute_path(settings["path"])
        environment = Environment(env=find_environment(env, of_run), env_config=settings)
        data_sets.append(
            DataSet(name=name, environment=environment, limit=given.get("limit", limit))
        )
    return tuple(data_sets)


def _check_data_set(name: str, given: Any, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{where}: a data set's name is made of letters, digits and _ + -")
    if not isinstance(given, dict):
        raise SettingsError(f"{where}={given!r} must hold env, env_config or limit")
    for key in given:
        if key not in _DATA_SET_KEYS:
            raise SettingsError(f"{where}: unknown setting {key!r}{suggest(key, _DATA_SET_KEYS)}")

    limit = given.get("limit")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise SettingsError(
            f"{where}.limit={limit!r} must be a whole number of at least 1, or null for all"
        )
    if not isinstance(given.get("env_config") or {}, dict):
        raise SettingsError(
            f"{where}.env_config={given['env_config']!r} must have settings under it"
        )


def _shared_environment(run_file: RunFile) -> tuple[Any, dict[str, Any]]:
    """What a training run with these settings would evaluate on."""
    sections = run_file.sections
    config = DAPOConfig()
    try:
        config.environment(**sections.get("environment", {}))
        config.evaluation(evaluation_config=sections["evaluation"].get("evaluation_config"))
        evaluated = config.get_evaluation_config_object()
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingsError(f"{run_file.source}: environment: {one_line(error)}") from error
    return evaluated.env, dict(evaluated.env_config)
