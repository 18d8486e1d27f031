"""What `rllib-dapo evaluate` is asked for: run files and options made into one configuration and a list of data sets.

The sections are those of a run file, as far as they have a part in sampling, so that a file of
training serves too; a section `datasets` names several. Nothing is loaded or started here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.kinds import attribute_of
from rllib_dapo.evaluation.evaluation_sampler import Environment
from rllib_dapo.findings import SettingsError, one_line, suggest
from rllib_dapo.learner.model_folder import MODULE_PATH
from rllib_dapo.run.environments import resolve_environment
from rllib_dapo.run.section_checks import allowed_settings, check_names
from rllib_dapo.run.yaml_file import Tree, parse_override, put, read_run_file

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
DATA_SETS = "datasets"
SAMPLES = 32  # the recipe's, as are DAPOConfig's temperature and top_p of evaluations
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
        name: Of its folder, its panel and its row.
        environment: Its own, with what is shared already merged in.
        limit: At most so many problems; None for all that there are.
    """

    name: str
    environment: Environment
    limit: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationSettings:
    """All that was asked for.

    Attributes:
        model: As it was named.
        checkpoint: The folder, where it is a checkpoint of a run.
        source: For messages: the file, or the command.
        config: Shared by all data sets; it has no environment yet.
        data_sets: At least one.
        is_given: Dotted names of the settings that somebody has given.
        data_hint: Where the file says that its data is to be had.
    """

    model: str
    checkpoint: Path | None
    source: str
    config: DAPOConfig
    data_sets: tuple[DataSet, ...]
    is_given: frozenset[str]
    data_hint: str


def read_evaluation(
    model: str,
    *,
    file: Path | None = None,
    envs: Sequence[str] = (),
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> EvaluationSettings:
    """Reads what is to be evaluated, and how.

    Options win over `--set`, that over the file, that over the settings of the run that a
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
    tree: Tree = {"evaluation": {"evaluation_samples_per_prompt": SAMPLES}}
    given: set[str] = set()
    source, hint = "evaluate", ""
    if checkpoint is not None:
        tree = _merged(tree, _settings_of_run(checkpoint))
        given |= _names(tree) - {"evaluation.evaluation_samples_per_prompt"}
    if file is not None:
        source = str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
        from_file, hint = _read_file(file, source)
        if "env" in from_file.get("environment", {}) or DATA_SETS in from_file:
            tree = _without_environment(tree)
        tree = _merged(tree, from_file)
        given |= _names(from_file)
    if envs:
        tree = _only(tree, envs)
    for override in overrides:
        name, value = _override(override)
        tree, given = put(tree, name, value), given | {name}
    for name, value in (options or {}).items():
        tree, given = put(tree, name, value), given | {name}
    limit = tree["evaluation"].get("evaluation_num_prompts")
    return EvaluationSettings(
        model=model,
        checkpoint=checkpoint,
        source=source,
        config=_config(
            tree, model if checkpoint is None else str(checkpoint / MODULE_PATH), source
        ),
        data_sets=_data_sets(tree, source, limit),
        is_given=frozenset(given),
        data_hint=hint,
    )


def is_checkpoint(model: str) -> bool:
    """Whether a folder is a checkpoint of `DAPO` rather than a model."""
    return (Path(model).expanduser() / MODULE_PATH / "config.json").is_file()


def short_name(env: Any) -> str:
    """`Math-v0` of `rllib_dapo/Math-v0`, `MyEnv` of `my_module:MyEnv`."""
    text = env if isinstance(env, str) else env.__qualname__
    return _NOT_IN_A_NAME.sub("-", re.split("[/:]", text)[-1])


def _read_file(file: Path, source: str) -> tuple[Tree, str]:
    tree, hint = read_run_file(file)
    data_sets = tree.pop(DATA_SETS, None)
    check_names(tree, source)
    tree = {section: tree[section] for section in SECTIONS if section in tree}
    if data_sets is not None:
        tree[DATA_SETS] = data_sets
    return tree, hint


def _override(text: str) -> tuple[str, Any]:
    name, value = parse_override(text)
    section = name.partition(".")[0]
    if section != DATA_SETS:
        check_names(put({}, name, value), f"--set {text}")
        if section not in SECTIONS:
            raise SettingsError(
                f"--set {text}: {section} has no part in an evaluation; these have: {', '.join(SECTIONS)}, {DATA_SETS}"
            )
    return name, value


def _settings_of_run(checkpoint: Path) -> Tree:
    """What the run of a checkpoint sampled and evaluated with, where Tune has left that beside it.

    Read as JSON: a pickle from elsewhere may run code. Whether the model may run some is not taken
    from there either.
    """
    path = checkpoint.parent / "params.json"
    if not path.is_file():
        return {}
    try:
        params = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: cannot be read: {one_line(error)}") from error
    rollout = {
        name: params[a]
        for name in allowed_settings("rollout")
        if (a := attribute_of(f"rollout.{name}")) in params
    }
    evaluation = {name: params[name] for name in _OF_THE_RUN if name in params}
    overrides = params.get("evaluation_config") or {}
    evaluation["evaluation_config"] = {
        name: overrides[name] for name in ("env", "env_config") if name in overrides
    }
    tree: Tree = {"rollout": rollout, "evaluation": evaluation}
    if "model_dtype" in params:
        tree["language_model"] = {"dtype": params["model_dtype"]}
    # A class stands there as text that is good for nothing.
    if isinstance(params.get("env"), str) and not params["env"].startswith("<"):
        tree["environment"] = {"env": params["env"], "env_config": params.get("env_config") or {}}
    return tree


def _merged(first: Tree, second: Tree) -> Tree:
    """The second on top of the first, section by section and key by key."""
    return first | {
        name: {**first.get(name, {}), **inner} if isinstance(inner, dict) else inner
        for name, inner in second.items()
    }


def _names(tree: Tree) -> set[str]:
    return {
        f"{section}.{name}"
        for section, inner in tree.items()
        if isinstance(inner, dict)
        for name in inner
    }


def _without_environment(tree: Tree) -> Tree:
    kept = {name: inner for name, inner in tree.items() if name not in ("environment", DATA_SETS)}
    if "evaluation_config" in kept.get("evaluation", {}):
        kept["evaluation"] = {
            n: value for n, value in kept["evaluation"].items() if n != "evaluation_config"
        }
    return kept


def _only(tree: Tree, envs: Sequence[str]) -> Tree:
    """With these environments. What is known of one of them is kept: naming it does not change it."""
    names = [short_name(env) for env in envs]
    if len(set(names)) < len(names):
        raise SettingsError(
            f"--env: two are called {max(names, key=names.count)!r}: name them in a file, as `{DATA_SETS}`"
        )
    if tree.get("environment", {}).get("env") not in envs:
        tree = _without_environment(tree)
    return {**tree, DATA_SETS: {name: {"env": env} for name, env in zip(names, envs, strict=True)}}


def _config(tree: Tree, model: str, source: str) -> DAPOConfig:
    # What only training looks at must not stand in the way.
    config = DAPOConfig().overlong(buffer_tokens=0)
    for section in SECTIONS:
        settings = {k: v for k, v in tree.get(section, {}).items() if k != "evaluation_config"}
        if section == "environment" or not settings:
            continue
        try:
            getattr(config, section)(**settings)
        except (ValueError, TypeError, AttributeError) as error:
            raise SettingsError(f"{source}: {section}: {one_line(error)}") from error
    if "num_env_runners" not in tree.get("env_runners", {}):
        config.env_runners(num_env_runners=0)
    # The engines are all there is; with EnvRunners, this process only waits for them.
    config.learners(num_learners=0, num_cpus_per_learner=0, num_gpus_per_learner=0)
    config.resources(num_cpus_for_main_process=0 if config.num_env_runners else 1)
    return config.language_model(model)


def _data_sets(tree: Tree, source: str, limit: int | None) -> tuple[DataSet, ...]:
    shared_env, shared_config = _shared_environment(tree, source)
    listed = tree.get(DATA_SETS)
    if listed is None:
        if shared_env is None:
            raise SettingsError(
                "which environment? name one: --env rllib_dapo/Math-v0, or --file with environment.env"
            )
        listed = {short_name(shared_env): {}}
    if not isinstance(listed, dict) or not listed:
        raise SettingsError(
            f"{source}: {DATA_SETS}={listed!r} must be names with {{env, env_config, limit}} under them"
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
        env_config = {**(shared_config if is_shared else {}), **(given.get("env_config") or {})}
        environment = Environment(
            env=resolve_environment(env), env_config=_with_absolute_path(env_config)
        )
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


def _shared_environment(tree: Tree, source: str) -> tuple[Any, dict[str, Any]]:
    """What a training run with these settings would evaluate on."""
    config = DAPOConfig()
    try:
        config.environment(**tree.get("environment", {}))
        config.evaluation(evaluation_config=tree["evaluation"].get("evaluation_config"))
        evaluated = config.get_evaluation_config_object()
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingsError(f"{source}: environment: {one_line(error)}") from error
    return evaluated.env, dict(evaluated.env_config)


def _with_absolute_path(env_config: dict[str, Any]) -> dict[str, Any]:
    """Files as seen from here: Ray's workers run in other folders."""

    def absolute(path: Any) -> Any:
        if isinstance(path, list):
            return [absolute(one) for one in path]
        return str(Path(path).expanduser().absolute()) if isinstance(path, str) else path

    return (
        {**env_config, "path": absolute(env_config["path"])} if "path" in env_config else env_config
    )
