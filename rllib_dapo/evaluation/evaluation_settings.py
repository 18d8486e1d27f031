"""What `rllib-dapo evaluate` is asked to do: a model, data sets, and how to sample."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.setting import attribute_of, section_kinds
from rllib_dapo.evaluation.evaluation_sampler import Environment
from rllib_dapo.findings import SettingsError, one_line, suggest
from rllib_dapo.learner.model_folder import MODULE_PATH
from rllib_dapo.run.environments import resolve_environment
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
from rllib_dapo.run.yaml_file import Tree

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
_SAMPLES_SETTING = "evaluation.evaluation_samples_per_prompt"
_DATA_SET_KEYS = ("env", "env_config", "limit")
_NAME = re.compile(r"[\w+-]+", re.ASCII)
_NOT_IN_A_NAME = re.compile(r"[^\w+-]+", re.ASCII)
_OF_THE_RUN = (
    "evaluation_num_prompts",
    "evaluation_samples_per_prompt",
    "evaluation_temperature",
    "evaluation_top_p",
)


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
        checkpoint: The folder, where it is a checkpoint of a run.
        source: The file, or the command, for messages.
        config: Configuration that all data sets share; it has no environment yet.
        data_sets: At least one.
        is_given: Dotted names of the settings that somebody has given.
        data_hint: Where the file says that its data comes from.
        origins: Where each setting was given.
    """

    model: str
    checkpoint: Path | None
    source: str
    config: DAPOConfig
    data_sets: tuple[DataSet, ...]
    is_given: frozenset[str]
    data_hint: str
    origins: Origins


def read_evaluation(
    model: str,
    *,
    file: Path | None = None,
    envs: Sequence[str] = (),
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
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

    Raises:
        SettingsError: If something cannot be read, or a name or the kind of a value is wrong.
    """
    checkpoint = Path(model).expanduser().absolute() if is_checkpoint(model) else None
    of_run = {} if checkpoint is None else _settings_of_run(checkpoint)
    of_file = [] if file is None else [_of_evaluation(layer) for layer in file_layers(file)]
    # The run's environment goes as a whole where the file names another one, or data sets.
    if any(_names_environment(layer.tree) for layer in of_file):
        of_run = _without_environment(of_run)

    source = of_file[-1].source if of_file else "evaluate"
    layers = [Layer(tree=of_run, source=source), *of_file]
    by_hand = [*_overrides(overrides), *_options(options or {})]
    given = _names(layer.tree for layer in layers) | {override.name for override in by_hand}

    defaults = Layer(tree={"evaluation": {"evaluation_samples_per_prompt": SAMPLES}}, source=source)
    tree = merge_layers([defaults, *layers])
    tree = _only(tree, envs) if envs else tree
    tree = put_overrides(tree, by_hand)
    run_file = take_apart(
        tree,
        name=model,
        source=source,
        data_hint=data_hint(layers),
        origins=make_origins(layers, by_hand),
    )

    return EvaluationSettings(
        model=model,
        checkpoint=checkpoint,
        source=source,
        config=_config(run_file, model if checkpoint is None else str(checkpoint / MODULE_PATH)),
        data_sets=_data_sets(run_file),
        is_given=frozenset(given),
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
    return [Override(name=n, value=value, source="evaluate") for n, value in options.items()]


def _settings_of_run(checkpoint: Path) -> Tree:
    """What the run of a checkpoint sampled and evaluated with, where Tune has left that beside it.

    It is read as JSON: a pickle from elsewhere may run code. Whether the model may run code of its
    own is not taken from there either.
    """
    path = checkpoint.parent / "params.json"
    if not path.is_file():
        return {}
    try:
        params = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: cannot be read: {one_line(error)}") from error

    rollout = {
        name: params[attribute]
        for name in section_kinds(DAPOConfig, "rollout")
        if (attribute := attribute_of(f"rollout.{name}", DAPOConfig)) in params
    }
    evaluation = {name: params[name] for name in _OF_THE_RUN if name in params}
    overrides = params.get("evaluation_config") or {}
    kept = {name: overrides[name] for name in ("env", "env_config") if name in overrides}
    evaluation["evaluation_config"] = kept

    tree: Tree = {"rollout": rollout, "evaluation": evaluation}
    if "model_dtype" in params:
        tree["language_model"] = {"dtype": params["model_dtype"]}
    # A class stands there as a text that is good for nothing.
    if isinstance(params.get("env"), str) and not params["env"].startswith("<"):
        tree["environment"] = {"env": params["env"], "env_config": params.get("env_config") or {}}
    return tree


def _names(trees: Iterable[Tree]) -> set[str]:
    """Dotted names of everything that stands in the sections."""
    return {
        f"{section}.{name}"
        for tree in trees
        for section, content in tree.items()
        if isinstance(content, dict)
        for name in content
    }


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
    if tree.get("environment", {}).get("env") not in envs:
        tree = _without_environment(tree)
    return {**tree, DATA_SETS: {name: {"env": env} for name, env in zip(names, envs, strict=True)}}


def _config(run_file: RunFile, model: str) -> DAPOConfig:
    """The configuration that all data sets share."""
    # What only training looks at must not stand in the way.
    config = DAPOConfig().overlong(buffer_tokens=0)
    sections = {name: run_file.sections[name] for name in SECTIONS if name in run_file.sections}
    sections.pop("environment", None)
    evaluation = sections.get("evaluation", {})
    sections["evaluation"] = {n: v for n, v in evaluation.items() if n != "evaluation_config"}
    apply_sections(config, sections, run_file.source, blame=run_file.origins.blame)

    if "num_env_runners" not in sections.get("env_runners", {}):
        config.env_runners(num_env_runners=0)
    # The engines are all there is; with EnvRunners, this process only waits for them.
    config.learners(num_learners=0, num_cpus_per_learner=0, num_gpus_per_learner=0)
    config.resources(num_cpus_for_main_process=0 if config.num_env_runners else 1)
    return config.language_model(model)


def _data_sets(run_file: RunFile) -> tuple[DataSet, ...]:
    source, listed = run_file.source, run_file.data_sets
    shared_env, shared_config = _shared_environment(run_file)
    limit = run_file.sections["evaluation"].get("evaluation_num_prompts")
    if listed is None:
        if shared_env is None:
            raise SettingsError(
                "which environment? name one: --env rllib_dapo/Math-v0, or --file with "
                "environment.env"
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
        environment = Environment(env=resolve_environment(env), env_config=settings)
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
