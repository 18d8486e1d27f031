"""What can be known to go wrong before Ray starts or a model loads: values, environments, room."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ray

from rllib_dapo.algorithm import DAPO
from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.value_checks import settings_warnings
from rllib_dapo.envs import Problem
from rllib_dapo.envs.datasets import refuse_overlap
from rllib_dapo.envs.math import unwrap
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.learner.token_selection import resolve_token_mask
from rllib_dapo.model_check.check_model import refuse_prompt_settings
from rllib_dapo.model_check.lora_modules import check_lora_modules
from rllib_dapo.model_check.model_report import refuse
from rllib_dapo.model_check.parallel_sizes import check_parallel_sizes
from rllib_dapo.model_check.router_loss import check_router_loss
from rllib_dapo.model_check.sizes import Lengths, check_sizes, read_text_config
from rllib_dapo.models import folder_if_there
from rllib_dapo.ray_internals import (
    find_bootstrap_address,
    get_accelerator_manager_for_resource,
    get_num_cpus,
)
from rllib_dapo.run.data_notes import data_notes
from rllib_dapo.run.environments import try_environment
from rllib_dapo.run.memory_warnings import memory_warnings
from rllib_dapo.run.run_settings import RunSettings

_TRAINING, _EVALUATION = "environment.env_config", "evaluation.evaluation_config.env_config"
RLLIB_AFTERWORD = "To suppress all validation errors"


def check_run(settings: RunSettings, *, available: Mapping[str, float] | None = None) -> None:
    """Checks everything that a run needs to start.

    Args:
        settings: The run, as it was built.
        available: CPUs and GPUs that a trial must fit into; by default this machine's, unless a
            cluster is to be used.

    Raises:
        SettingsError: For the first finding; one line.
    """
    for config in settings.checked:
        check_values(config, settings)
        _check_token_mask(config, settings)

    tried: list[_TriedEnvironment] = []
    for config in settings.checked:
        _check_environments(config, settings, tried)

    # Only a cluster that is already there can tell its size, and it may grow.
    if available is None:
        available = {} if uses_cluster() else machine_resources()
    for config in settings.checked:
        try:
            check_placement(config, available)
        except SettingsError as error:
            raise SettingsError(_blamed(str(error), config, settings)) from None


def check_models(settings: RunSettings) -> None:
    """Checks the sizes of a run's models.

    A model that is not on this machine yet is checked when a trial has it. So is everything that
    takes loading a model.

    Args:
        settings: The run, checked by `check_run`.

    Raises:
        SettingsError: For the first finding; one line.
    """
    different = {
        (
            folder_if_there(str(c.model_name)),
            c.max_prompt_tokens,
            c.max_response_tokens,
            c.system_prompt,
            str(c.tokenizer_settings),
            c.tensor_parallel_size,
            c.pipeline_parallel_size,
            str(c.lora),
        ): c
        for c in reversed(settings.checked)
    }
    for (folder, max_prompt_tokens, max_response_tokens, *_), config in different.items():
        if folder is None:
            continue
        lengths = Lengths(
            max_prompt_tokens=max_prompt_tokens, max_response_tokens=max_response_tokens
        )
        try:
            found = [
                *check_sizes(folder, lengths),
                *check_parallel_sizes(folder, config),
                *check_lora_modules(folder, config),
            ]
            refuse(found, model=str(config.model_name))
            refuse_prompt_settings(config)
        except ValueError as error:
            raise SettingsError(_blamed(one_line(error), config, settings)) from error


def warnings(settings: RunSettings) -> list[str]:
    """What a user should know before a run that can start, each in one line.

    Args:
        settings: The run, checked by `check_run`.
    """
    told = {
        text: config for config in reversed(settings.checked) for text in settings_warnings(config)
    }
    for config in reversed(settings.checked):
        folder = folder_if_there(str(config.model_name))
        found = check_router_loss(read_text_config(folder)) if folder is not None else []
        told |= {f"language_model.name={config.model_name!r}: {f.detail}": config for f in found}

    # A cluster's machines are not this one.
    if not uses_cluster():
        told |= memory_warnings(settings.checked)
    return [
        *settings.notes,
        *(_blamed(text, config, settings) for text, config in told.items()),
        *data_notes(settings.checked),
    ]


def uses_cluster() -> bool:
    """Whether `ray.init()` will join a running Ray rather than start one here."""
    address = os.environ.get("RAY_ADDRESS") or find_bootstrap_address(None)
    return ray.is_initialized() or bool(address)


def machine_resources() -> dict[str, float]:
    """The CPUs and GPUs that a Ray started here would count."""
    gpus = get_accelerator_manager_for_resource("GPU").get_current_node_num_accelerators()
    return {"GPU": gpus, "CPU": get_num_cpus(override_docker_cpu_warning=True)}


def check_placement(config: DAPOConfig, available: Mapping[str, float]) -> None:
    """Refuses a trial that one machine can never hold: Ray would wait for room without a word.

    Args:
        config: Valid configuration without search spaces.
        available: Resources of the machine, by name.

    Raises:
        SettingsError: If the trial asks for more; it says what to lower.
    """
    request = DAPO.default_resource_request(config.to_dict())
    bundles = [{}, *request.bundles] if request.head_bundle_is_empty else request.bundles
    after_runners = 1 + config.num_env_runners
    after_learners = after_runners + config.num_learners
    groups = {
        "main": bundles[:1],
        "EnvRunners": bundles[1:after_runners],
        "Learners": bundles[after_runners:after_learners],
        "engines' workers": bundles[after_learners:],
    }
    if config.samples_elsewhere:
        host = config.host_resources
        groups["shared engine"] = [{"CPU": host["num_cpus"], "GPU": host["num_gpus"]}]

    for resource, there in available.items():
        asked = sum(bundle.get(resource, 0) for group in groups.values() for bundle in group)
        if asked <= there:
            continue
        parts = [
            f"{name} {len(group)} x {group[0].get(resource, 0):g}"
            for name, group in groups.items()
            if group
        ]
        unit = f"num_{resource.lower()}s"
        sizes = _parallel_sizes(config)
        is_free = resource == "CPU" or not sizes  # not what follows from the sizes
        lowered = [
            "env_runners.num_env_runners",
            *sizes,
            *([f"env_runners.{unit}_per_env_runner"] if is_free else []),
            f"learners.{unit}_per_learner",
            *(["resources.num_cpus_for_main_process"] if resource == "CPU" else []),
        ]
        raise SettingsError(
            f"a trial on this machine asks for {asked:g} {resource}s ({', '.join(parts)}), but it "
            f"has {there:g}: lower {', '.join(lowered[:-1])} or {lowered[-1]}; fractions are "
            "allowed"
        )


def _parallel_sizes(config: DAPOConfig) -> list[str]:
    """Settings that an EnvRunner's CPUs and GPUs follow from, where its engine has workers."""
    sizes = {
        "rollout.tensor_parallel_size": config.tensor_parallel_size,
        "rollout.pipeline_parallel_size": config.pipeline_parallel_size,
    }
    return [name for name, size in sizes.items() if size > 1]


def _blamed(finding: str, config: DAPOConfig, settings: RunSettings) -> str:
    """A finding on a configuration, with the option or the file that is to blame."""
    return settings.origins.blame(finding, variant=config.variant)


def check_values(config: DAPOConfig, settings: RunSettings) -> None:
    """Checks every value of a configuration, and of its evaluation.

    Args:
        config: Configuration without search spaces.
        settings: The run that it is of.

    Raises:
        SettingsError: For the first finding; one line.
    """
    try:
        config.copy(copy_frozen=False).validate()
        evaluation = config.get_evaluation_config_object()
        if evaluation is not None:
            evaluation.validate()
    except (ValueError, TypeError) as error:
        finding = one_line(error).partition(RLLIB_AFTERWORD)[0].strip()
        raise SettingsError(_blamed(finding, config, settings)) from error


def _check_token_mask(config: DAPOConfig, settings: RunSettings) -> None:
    """Looks for a function that is given by its name."""
    if not isinstance(config.token_mask, str):
        return
    if str(Path.cwd()) not in sys.path:  # a console script does not look here, Ray's workers do
        sys.path.insert(0, str(Path.cwd()))

    # Importing a user's module may raise anything; one line is better than a traceback.
    setting = f"training.token_mask={config.token_mask!r}"
    try:
        found = resolve_token_mask(config.token_mask)
    except Exception as error:
        finding = f"{setting}: {one_line(error)}"
        raise SettingsError(_blamed(finding, config, settings)) from error
    if not callable(found):
        finding = f"{setting} is {found!r}, which is not a function"
        raise SettingsError(_blamed(finding, config, settings))


class _TriedEnvironment(NamedTuple):
    """An environment that was made once, and the problems that it goes through, if it lists any."""

    env: Any
    env_config: Mapping[str, Any]
    problems: tuple[Problem, ...]


def _check_environments(
    config: DAPOConfig, settings: RunSettings, tried: list[_TriedEnvironment]
) -> None:
    """Tries the environments of training and evaluation, each setting of them once."""
    if config.env is None:
        finding = "environment.env is not set: give an id such as rllib_dapo/Math-v0"
        raise SettingsError(_blamed(finding, config, settings))
    evaluation = config.get_evaluation_config_object() or config
    training_problems, heldout_problems = (
        _problems(env, env_config, name, settings, tried)
        for name, env, env_config in (
            (_TRAINING, config.env, config.env_config),
            (_EVALUATION, evaluation.env, evaluation.env_config),
        )
    )

    if config.evaluation_interval or config.evaluate_before_training:
        try:
            _check_overlap(training_problems, heldout_problems)
        except ValueError as error:
            raise SettingsError(f"{_where(config, settings)}: {error}") from None


def _problems(
    env: Any,
    env_config: Mapping[str, Any],
    name: str,
    settings: RunSettings,
    tried: list[_TriedEnvironment],
) -> tuple[Problem, ...]:
    known = next((one for one in tried if (one.env, one.env_config) == (env, env_config)), None)
    if known is not None:
        return known.problems

    try:
        problems = try_environment(env, env_config, setting=name)
    except SettingsError as error:
        is_about_data = settings.data_hint and "path=" in str(error)
        hint = f". Data: {settings.data_hint}" if is_about_data else ""
        raise SettingsError(settings.origins.blame(f"{error}{hint}")) from error
    tried.append(_TriedEnvironment(env, env_config, problems))
    return problems


def _where(config: DAPOConfig, settings: RunSettings) -> str:
    """The file, and which of its variants."""
    variant = config.variant
    return settings.source if variant is None else f"{settings.source}: variants.{variant}"


def _check_overlap(training: tuple[Problem, ...], heldout: tuple[Problem, ...]) -> None:
    """Refuses an evaluation on what is trained on, where both environments list their problems."""
    way_out = (
        f"{_TRAINING}.split to train and {_EVALUATION}.split to heldout, or the path of one of the "
        "two"
    )
    refuse_overlap(training, heldout, bare=unwrap, settings=way_out)
