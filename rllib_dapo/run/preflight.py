"""What can be known to go wrong before Ray starts or a model loads: values, environment, placement."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ray

from rllib_dapo.algorithm import DAPO
from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.value_checks import idle_clip_warning
from rllib_dapo.envs import Problem
from rllib_dapo.envs.datasets import refuse_overlap
from rllib_dapo.envs.math import unwrap
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.learner.old_logprobs import resolve_token_mask
from rllib_dapo.ray_internals import (
    find_bootstrap_address,
    get_accelerator_manager_for_resource,
    get_num_cpus,
)
from rllib_dapo.run.environments import try_environment
from rllib_dapo.run.run_settings import RunSettings

_TRAINING, _EVALUATION = "environment.env_config", "evaluation.evaluation_config.env_config"
_RLLIB_AFTERWORD = "To suppress all validation errors"


def check_run(settings: RunSettings, *, available: Mapping[str, float] | None = None) -> None:
    """Checks all that a run needs to start.

    Args:
        settings: As read.
        available: CPUs and GPUs that a trial must fit into; by default this machine's, unless a
            cluster is to be used.

    Raises:
        SettingsError: For the first finding; one line.
    """
    for config in settings.checked:
        _check_values(config, _source(config, settings))
        _check_token_mask(config, _source(config, settings))
    tried: list[_Tried] = []
    for config in settings.checked:
        _check_environments(config, settings, tried)
    if available is None and not uses_cluster():
        available = machine_resources()
    for config in settings.checked:
        check_placement(config, available or {})


def warnings(settings: RunSettings) -> list[str]:
    """What a user should know before a run that can start, each in one line.

    Args:
        settings: Checked by `check_run`.
    """
    found = {
        idle_clip_warning(config): _source(config, settings)
        for config in reversed(settings.checked)
    }
    return [f"{source}: {warning}" for warning, source in found.items() if warning]


def uses_cluster() -> bool:
    """Whether `ray.init()` will join a running Ray rather than start one here."""
    return ray.is_initialized() or bool(
        os.environ.get("RAY_ADDRESS") or find_bootstrap_address(None)
    )


def machine_resources() -> dict[str, float]:
    """The CPUs and GPUs that a Ray started here would count."""
    gpus = get_accelerator_manager_for_resource("GPU").get_current_node_num_accelerators()
    return {"GPU": gpus, "CPU": get_num_cpus(override_docker_cpu_warning=True)}


def check_placement(config: DAPOConfig, available: Mapping[str, float]) -> None:
    """Refuses a trial that one machine can never hold: Ray would wait for room without a word.

    Args:
        config: Valid, without search spaces.
        available: What the machine has.

    Raises:
        SettingsError: With what is asked for, what there is, and what to lower.
    """
    request = DAPO.default_resource_request(config.to_dict())
    bundles = [{}, *request.bundles] if request.head_bundle_is_empty else request.bundles
    after_runners = 1 + config.num_env_runners
    groups = {
        "main": bundles[:1],
        "EnvRunners": bundles[1:after_runners],
        "Learners": bundles[after_runners:],
    }
    for resource, there in available.items():
        asked = sum(bundle.get(resource, 0) for bundle in bundles)
        if asked > there:
            parts = [
                f"{n} {len(group)} x {group[0].get(resource, 0):g}"
                for n, group in groups.items()
                if group
            ]
            unit = f"num_{resource.lower()}s"
            raise SettingsError(
                f"a trial on this machine asks for {asked:g} {resource}s ({', '.join(parts)}), but it has {there:g}: "
                f"lower env_runners.num_env_runners, env_runners.{unit}_per_env_runner or learners.{unit}_per_learner"
                f"{' or resources.num_cpus_for_main_process' if resource == 'CPU' else ''}; fractions are allowed"
            )


def _source(config: DAPOConfig, settings: RunSettings) -> str:
    """The file, and which of its variants."""
    return (
        settings.source
        if config.variant is None
        else f"{settings.source}: variants.{config.variant}"
    )


def _check_token_mask(config: DAPOConfig, source: str) -> None:
    """Looks for a function that is given by its name."""
    if not isinstance(config.token_mask, str):
        return
    if (
        str(Path.cwd()) not in sys.path
    ):  # where a console script does not look, but Ray's workers do
        sys.path.insert(0, str(Path.cwd()))
    # Whatever importing a user's module may raise, one line is better than a traceback before
    # anything has started.
    try:
        found = resolve_token_mask(config.token_mask)
    except Exception as error:
        raise SettingsError(
            f"{source}: training.token_mask={config.token_mask!r}: {one_line(error)}"
        ) from error
    if not callable(found):
        raise SettingsError(
            f"{source}: training.token_mask={config.token_mask!r} is {found!r}, which is no function"
        )


def _check_values(config: DAPOConfig, source: str) -> None:
    try:
        config.copy(copy_frozen=False).validate()
        evaluation = config.get_evaluation_config_object()
        if evaluation is not None:
            evaluation.validate()
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"{source}: {one_line(error).partition(_RLLIB_AFTERWORD)[0].strip()}"
        ) from error


class _Tried(NamedTuple):
    """An environment that was made once, and the list of problems that it goes through, if it has one."""

    env: Any
    env_config: Mapping[str, Any]
    problems: tuple[Problem, ...]


def _check_environments(config: DAPOConfig, settings: RunSettings, tried: list[_Tried]) -> None:
    """Tries the training and the evaluation environment, each setting of them once, and keeps their problems apart."""
    if config.env is None:
        raise SettingsError(
            f"{settings.source}: environment.env is not set: give an id such as rllib_dapo/Math-v0"
        )
    evaluation = config.get_evaluation_config_object() or config
    training_problems, heldout_problems = (
        _problems(env, env_config, name, settings, tried)
        for name, env, env_config in (
            (_TRAINING, config.env, config.env_config),
            (_EVALUATION, evaluation.env, evaluation.env_config),
        )
    )
    if config.evaluation_interval or config.evaluate_before_training:
        _check_overlap(training_problems, heldout_problems, _source(config, settings))


def _problems(
    env: Any, env_config: Mapping[str, Any], name: str, settings: RunSettings, tried: list[_Tried]
) -> tuple[Problem, ...]:
    known = next((one for one in tried if (one.env, one.env_config) == (env, env_config)), None)
    if known is not None:
        return known.problems
    try:
        problems = try_environment(env, env_config, setting=name)
    except SettingsError as error:
        about_data = settings.data_hint and "path=" in str(error)
        raise SettingsError(
            f"{error}. Data: {settings.data_hint}" if about_data else str(error)
        ) from error
    tried.append(_Tried(env, env_config, problems))
    return problems


def _check_overlap(
    training: tuple[Problem, ...], heldout: tuple[Problem, ...], source: str
) -> None:
    """Refuses an evaluation on what is trained on, where both environments go through lists of problems."""
    way_out = f"{_TRAINING}.split to train and {_EVALUATION}.split to heldout, or the path of one of the two"
    try:
        refuse_overlap(training, heldout, bare=unwrap, settings=way_out)
    except ValueError as error:
        raise SettingsError(f"{source}: {error}") from None
