"""The engines that trials share, for as long as a sweep lasts (`rollout.shared_engine`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from rllib_dapo.findings import SettingsError, one_line

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.run.run_settings import RunSettings

# A cluster that makes new machines takes minutes.
_ROOM_SECONDS = 600.0
# Trials at a time where nothing bounds them: a place costs as much memory as an adapter has.
_MOST_TRIALS = 64


@contextmanager
def shared_engine(
    *configs: DAPOConfig, clients: int, room_seconds: float = _ROOM_SECONDS
) -> Iterator[None]:
    """Engines for trials with `rollout.shared_engine`, while the context lasts.

    Ray must be running, and trials must be of the same job. `rllib-dapo train` does this by itself.

    ```python
    with rllib_dapo.shared_engine(config, clients=9):
        tune.Tuner("DAPO", param_space=space).fit()
    ```

    Args:
        *configs: Configurations without search spaces. Those that differ in what an engine is made
            of (the model, token limits, `rollout.engine_kwargs`, ...) have engines of their own;
            those without the setting have none.
        clients: Largest number of EnvRunners that sample at the same time: of all trials together.
        room_seconds: How long to wait until Ray has found CPUs and GPUs for an engine.

    Raises:
        RuntimeError: If Ray has no room for one; one line.
    """
    from rllib_dapo.config.engine_sharing import host_arguments, host_name
    from rllib_dapo.rollout.engine_host_actor import engine_host

    by_name: dict[str, DAPOConfig] = {}
    for given in configs:
        config = given.copy(copy_frozen=False)
        config.validate()
        name = host_name(config)
        if name is not None:
            by_name.setdefault(name, config)

    with ExitStack() as stack:
        for name, config in by_name.items():
            stack.enter_context(
                engine_host(
                    name,
                    {**host_arguments(config), "adapters": clients},
                    places=clients,
                    resources=config.host_resources,
                    room_seconds=room_seconds,
                )
            )
        yield


@contextmanager
def engines_of_run(settings: RunSettings) -> Iterator[None]:
    """The same for a run file: they have their room before Tune looks for that of trials.

    Args:
        settings: The run, checked by `preflight.check_run`.

    Raises:
        SettingsError: As `shared_engine`.
    """
    sharing = [config for config in settings.checked if config.samples_elsewhere]
    with ExitStack() as stack:
        if sharing:
            runners = max(max(1, config.num_env_runners) for config in sharing)
            clients = runners * trials_at_a_time(settings)
            try:
                stack.enter_context(shared_engine(*sharing, clients=clients))
            except RuntimeError as error:
                raise SettingsError(one_line(error)) from error
        yield


def trials_at_a_time(settings: RunSettings) -> int:
    """A bound on the number of trials that are under way at the same time."""
    variants = len({config.variant for config in settings.checked})
    grids = [len(space["grid"]) for space in settings.search.values() if "grid" in space]
    num_points = settings.tune.num_samples * variants * math.prod(grids)
    bounds = [_MOST_TRIALS, num_points * max(1, len(settings.seeds))]
    if settings.tune.max_concurrent_trials:
        bounds.append(settings.tune.max_concurrent_trials)
    return min(bounds)
