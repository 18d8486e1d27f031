"""Every private name of Ray that this package uses, with the reason: look here after an update.

Not here are the attributes and hooks that RLlib means its subclasses to use, such as
`Learner._weights_seq_no` or `AlgorithmConfig._model_config_auto_includes`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

# What RLlib's own methods have as the default of an argument that is no longer one: such arguments
# are not offered as settings. Without it, deprecated names would pass as settings.
from ray._common.deprecation import DEPRECATED_VALUE

# Counts a machine's GPUs as `ray.init` would, before Ray is started. Without it, preflight could
# not say that a run asks for more GPUs than there are.
from ray._private.accelerators import get_accelerator_manager_for_resource

# Has Ray read the token for a cluster with authentication. Without it, the dashboard's answers to
# our requests would be "unauthorized".
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)

# Where the output of workers comes out in the driver. Without it, the output of workers would run
# through the progress lines instead of into a file.
from ray._private.ray_logging import global_worker_stdstream_dispatcher

# Finds a cluster that is already running on this machine. Without it, preflight would compare a
# run's wishes with this machine where Ray would join that cluster.
# The other resolves an address as `ray.init` would. Without it, an address at which no Ray answers
# would be found out only by `ray.init`, after a minute.
from ray._private.services import canonicalize_bootstrap_address, find_bootstrap_address

# Counts a machine's CPUs as `ray.init` would, limits of containers included. Without it, preflight
# could not say that a run asks for more CPUs than there are.
from ray._private.utils import get_num_cpus

# Resolves a storage path or URI as Tune does. Without it, our files beside a run's results could
# miss Tune's folder.
from ray.train._internal.storage import get_fs_and_path

# Finds the newest of the snapshots that Tune writes of a run. Without it, trials that have ended
# could not go on under another `stop`.
from ray.tune.execution.experiment_state import _find_newest_experiment_checkpoint

# Has the environments that were registered with `tune.register_env`. Without it, a name given to
# Tune could not be told from a Gymnasium id, and its environment could not be made.
from ray.tune.registry import ENV_CREATOR, _global_registry

if TYPE_CHECKING:
    from collections.abc import Collection

    from ray import tune
    from ray.actor import ActorHandle
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.core.learner.learner_group import LearnerGroup
    from ray.rllib.env.env_runner_group import EnvRunnerGroup

    # Where Tune stores a trial: its file system and folders.
    from ray.train._internal.storage import StorageContext
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

__all__ = [
    "DEPRECATED_VALUE",
    "StorageContext",
    "canonicalize_bootstrap_address",
    "construction_errors_raised",
    "find_bootstrap_address",
    "get_accelerator_manager_for_resource",
    "get_fs_and_path",
    "get_num_cpus",
    "global_worker_stdstream_dispatcher",
    "keep_one_more_actor",
    "keep_trial_state",
    "kill_env_runner",
    "learner_actors",
    "make_resumable",
    "maybe_enable_token_auth_if_token_available",
    "restored_run_config",
    "start_ray",
    "trial_storage",
    "tune_env_creator",
    "wait_for_one",
]

_START_ATTEMPTS = 4


def start_ray(**options: Any) -> Any:
    """`ray.init`, and again where a busy machine let it time out.

    Ray gives the processes of a node 30 seconds to start, and no setting of its own moves that
    bound.

    Args:
        **options: Arguments of `ray.init`.

    Raises:
        Exception: Whatever `ray.init` raises for another reason, or in the last attempt.
    """
    import ray

    for attempts_left in reversed(range(_START_ATTEMPTS)):
        try:
            return ray.init(**options)
        except Exception as error:
            if "timed out during startup" not in str(error) or not attempts_left:
                raise
            ray.shutdown()
    raise AssertionError("unreachable")


def tune_env_creator(name: str) -> Callable[..., Any] | None:
    """What was registered with `tune.register_env` under a name; None if nothing was."""
    if not _global_registry.contains(ENV_CREATOR, name):
        return None
    creator: Callable[..., Any] = _global_registry.get(ENV_CREATOR, name)
    return creator


def trial_storage(algorithm: Algorithm) -> StorageContext | None:
    """Where Tune stores the trial of an algorithm; None without Tune.

    Tune tells a Trainable this, and RLlib has no public name for it. Without it, recordings and
    tables of samples could not lie beside the trial's results, and gauges could not name the trial.
    """
    return algorithm._storage


@contextmanager
def construction_errors_raised(algorithm: Algorithm) -> Iterator[None]:
    """Raises what an EnvRunner's constructor raised while an algorithm is set up.

    Where every EnvRunner failed in its constructor, RLlib keeps their errors to itself and raises a
    bare IndexError; where some failed, it logs their errors and goes on without them for good.
    Without this, a mistake in an environment's settings would not be named, nor an engine for which
    there was no room.
    """
    try:
        yield
    except IndexError as error:
        causes = _construction_errors(algorithm)
        if causes is None:
            raise
        raise (causes[0] if causes else error) from None

    causes = _construction_errors(algorithm)
    if causes:
        raise causes[0]


def _construction_errors(algorithm: Algorithm) -> list[Exception] | None:
    """What EnvRunners raised that do not answer; None where there is no group of them."""
    group = getattr(algorithm, "env_runner_group", None)
    if group is None:
        return None
    if group.num_healthy_remote_workers() == group.num_remote_env_runners():
        return []
    answers = group._worker_manager.foreach_actor("ping", healthy_only=False)
    return [answer.get() for answer in answers if not answer.ok]


def keep_one_more_actor(controller: TuneController, trial: Trial) -> None:
    """Has Tune keep one more of the actors whose trials are paused, for trials such as this one.

    Tune keeps one of those that no trial waits for. Without this, population based training would
    stop the others' engines at the end of each round, and make them again.
    """
    controller._actor_cache.increase_max(trial.placement_group_factory)


def keep_trial_state(controller: TuneController, trial: Trial) -> None:
    """Has Tune write a trial's state into its next snapshot of the run.

    Tune does so by itself where an actor stops. Without this, a trial that is stopped while it is
    paused, and so has no actor, would count as paused in the folder, and a resumed run would go on
    with it.
    """
    controller._mark_trial_to_checkpoint(trial)


def wait_for_one(group: EnvRunnerGroup, *, tags: Collection[str], seconds: float) -> None:
    """Waits until one of the calls under way with these tags has returned, or time is up.

    `fetch_ready_async_reqs` waits for all of them. Without this, each group would come back with
    the next one of the slowest EnvRunner, or the driver would ask all the time.
    """
    import ray

    under_way = group._worker_manager._in_flight_req_to_actor_id
    calls = [call for call, (tag, _) in under_way.items() if tag in tags]
    if calls:
        ray.wait(calls, num_returns=1, timeout=seconds)


def kill_env_runner(group: EnvRunnerGroup, index: int) -> None:
    """Ends an EnvRunner that does not answer, as a crash would: where Ray may, it starts it anew.

    RLlib waits for one for ever. Without this, one that hangs would hang the run.
    """
    import ray

    ray.kill(group._worker_manager.actors()[index], no_restart=False)


def learner_actors(group: LearnerGroup) -> list[ActorHandle]:
    """The actors of the Learners, by rank; none where the Learner is in this process.

    RLlib asks all Learners and waits for them. Without this, engines could not be given references
    to pieces of weights that the first Learner is still making.
    """
    return [] if group.is_local else list(group._worker_manager.actors().values())


def make_resumable(
    folder: str, *, reopened: Collection[str] = (), is_stop_changed: bool = False
) -> None:
    """Writes a newer snapshot of a run beside Tune's own, from which Tune resumes as it should.

    Tune resumes all trials that have ended, or none, and by the stopper that it had: some wait in
    the new snapshot, and perhaps no stopper is kept. Nor are decisions that were to be carried out
    after a save. Where a trial's process dies in a save, Tune decides to stop it after that save,
    and would do so after the first one of the resumed trial, without a word.

    Args:
        folder: Folder or URI of the run.
        reopened: Tune's ids of trials that have ended and go on; all others stay as they are.
        is_stop_changed: Whether trials end by the `stop` that Tune is given now.
    """
    filesystem, path = get_fs_and_path(folder)
    newest = _find_newest_experiment_checkpoint(path, fs=filesystem)
    if newest is None:
        return  # ended before Tune's first
    with filesystem.open_input_stream(newest) as file:
        state = json.loads(file.read())

    def as_it_goes_on(text: str) -> str:
        trial = json.loads(text)
        waits = trial["trial_id"] in reopened
        return json.dumps({**trial, "status": "PENDING"}) if waits else text

    trials = [[as_it_goes_on(text), metadata] for text, metadata in state["trial_data"]]
    dropped = {"_cached_trial_decisions", "_queued_trial_decisions"}
    dropped |= {"_stopper"} if is_stop_changed else set()
    kept = {name: value for name, value in state["runner_data"].items() if name not in dropped}
    new_state = {**state, "runner_data": kept, "trial_data": trials}

    # Tune reads the snapshot whose name is the last; its own are named by the time of their start.
    name = f"{path}/experiment_state-{datetime.now():%Y-%m-%d_%H-%M-%S}.json"
    with filesystem.open_output_stream(name) as file:
        file.write(json.dumps(new_state).encode())


def restored_run_config(tuner: tune.Tuner) -> tune.RunConfig:
    """The `RunConfig` of a restored Tuner, to be changed before `fit`.

    `Tuner.restore` takes none, and goes by the one that the run was started with. Without this, a
    resumed run could not train longer than was said when it started.
    """
    config: tune.RunConfig = tuner._local_tuner.get_run_config()
    return config
