"""Beginning again under another configuration, with the EnvRunners and engines that are there.

Making an engine takes longer than many iterations of a small model, so the trials of a sweep share
theirs. Which settings may differ between two trials is said in `config.actor_reuse`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils import force_list
from ray.rllib.utils.debug import update_global_seed_if_necessary
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from ray.tune import PlacementGroupFactory

from rllib_dapo.algorithm_events import call_back
from rllib_dapo.config.actor_reuse import fixed_differences
from rllib_dapo.config.dapo_config import DAPOConfig

if TYPE_CHECKING:
    from rllib_dapo.algorithm import DAPO


def following_config(
    new: DAPOConfig | dict[str, Any], built: DAPOConfig, *, algo_class: type[DAPO]
) -> DAPOConfig:
    """The configuration of a trial that takes over the actors of another one.

    Args:
        new: Settings by attribute name, as Tune passes them, or a configuration.
        built: Configuration that the engines and the actors were made with.
        algo_class: Class of the algorithm.

    Returns:
        The new configuration, validated and frozen.

    Raises:
        ValueError: If settings differ that need other engines or actors; one line.
    """
    config = algo_class.get_default_config().update_from_dict(
        new.to_dict() if isinstance(new, DAPOConfig) else new
    )
    config.algo_class = algo_class
    config.validate()
    config.freeze()

    differences = fixed_differences(built, config)
    if differences:
        raise ValueError(
            "this trial cannot follow on another in the same actors, which were made with other "
            f"{differences}: set reuse_actors=False in tune.TuneConfig"
        )
    return config


def request_or_little(request: Callable[[Any], Any], config: Any) -> Any:
    """The resources that a trial asks Tune for, whatever its settings are.

    Tune asks in its own process, while it makes trials, and an error there would end the sweep and
    lose the results of all trials before. A trial with settings that are refused gets an actor
    instead, and fails alone, with the same line, when this actor looks at them.

    Args:
        request: RLlib's `default_resource_request`, which validates.
        config: A trial's settings, or its configuration.
    """
    try:
        return request(config if isinstance(config, dict) else config.to_dict())
    except Exception:  # what a space draws may be of any kind, so RLlib may raise anything
        return PlacementGroupFactory([{"CPU": 1}])


def start_over_with(
    config: DAPOConfig, env_runner_group: EnvRunnerGroup, indices: list[int]
) -> None:
    """Has restarted EnvRunners begin again under the configuration of the present trial.

    Args:
        config: The configuration.
        env_runner_group: The EnvRunners.
        indices: Indices of those that were restarted.
    """
    env_runner_group.foreach_env_runner(
        lambda runner: runner.start_over(config),
        remote_worker_ids=indices,
        local_env_runner=False,
    )


def build_anew(algorithm: DAPO) -> None:
    """The steps of `Algorithm.__init__` and `setup`, but for making EnvRunners and their engines.

    A run after a reset is, bit by bit, a new run.

    Args:
        algorithm: An algorithm that has taken its new configuration.
    """
    config = algorithm.config
    update_global_seed_if_necessary(config.framework_str, config.seed)

    algorithm.callbacks = [cls() for cls in force_list(config.callbacks_class)]
    algorithm.metrics = MetricsLogger(root=True, stats_cls_lookup=config.stats_cls_lookup)
    algorithm.evaluation_config = config.get_evaluation_config_object()
    algorithm.evaluation_config.validate()
    algorithm.evaluation_config.freeze()

    algorithm.env_runner_group.foreach_env_runner(
        lambda runner: runner.start_over(config), timeout_seconds=config.weight_sync_timeout_s
    )

    algorithm.learner_group.shutdown()
    del algorithm.learner_group  # its memory, before another model is loaded
    spec = config.get_multi_rl_module_spec(spaces=algorithm.spaces, inference_only=False)
    algorithm.learner_group = config.build_learner_group(rl_module_spec=spec)

    call_back(algorithm, "on_algorithm_init")
