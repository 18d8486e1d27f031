"""The host of a shared engine as a Ray actor: started once, found by its name, ended with a sweep.

Its name says what its engine is made of, so trials with the same settings find the same one. Names
are Ray's, in the namespace of its job: two sweeps on a cluster do not meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from rllib_dapo.models import resolve_model
from rllib_dapo.rollout.engine import Engine, EngineDiedError
from rllib_dapo.rollout.engine_host import EngineHost
from rllib_dapo.rollout.host_clients import HostAnswer
from rllib_dapo.rollout.make_engine import make_engine
from rllib_dapo.rollout.shared_engine import SharedEngine
from rllib_dapo.threads import set_num_threads

if TYPE_CHECKING:
    from ray.actor import ActorHandle

# Times that Ray starts the actor anew if its process ends. Trials fail then, and Tune may start
# them again from their last checkpoints (`tune.max_failures`).
_RESTARTS = 3
# Calls under way at a time, of each client and in all: a rollout, a sign of life, an adapter.
_CALLS_OF_A_CLIENT, _MORE_CALLS = 3, 8
# Seconds for the engine to end by itself, with processes of its own.
_CLOSING_SECONDS = 30.0


@contextmanager
def engine_host(
    name: str,
    arguments: Mapping[str, Any],
    *,
    places: int,
    resources: Mapping[str, float],
    room_seconds: float,
) -> Iterator[ActorHandle]:
    """A host that other processes of this job find by its name, for as long as this lasts.

    Args:
        name: Its name.
        arguments: Of `make_engine`, and `num_threads`.
        places: Number of clients at a time.
        resources: `num_cpus` and `num_gpus` that Ray keeps for it.
        room_seconds: How long to wait for these.

    Yields:
        The actor. It has its room, and its engine may still be loading.

    Raises:
        RuntimeError: If there is no room for it; one line.
    """
    capacity = int(arguments["max_concurrent_responses"])
    actor = (
        ray.remote(EngineHost)
        .options(
            name=name,
            max_restarts=_RESTARTS,
            max_concurrency=_CALLS_OF_A_CLIENT * places + _MORE_CALLS,
            **resources,
        )
        .remote(
            partial(make_hosted_engine, dict(arguments)),
            capacity=capacity,
            places=places,
            name=f"{arguments['kind']} · {Path(str(arguments['model'])).name}",
        )
    )
    try:
        _wait_for_room(actor, resources, room_seconds)
        yield actor
    finally:
        # Workers of an engine are processes of their own, which it ends. One that hangs is killed.
        if ray.is_initialized():
            with suppress(GetTimeoutError, RayActorError):
                ray.get(actor.close.remote(), timeout=_CLOSING_SECONDS)
            ray.kill(actor)


def _wait_for_room(actor: ActorHandle, resources: Mapping[str, float], room_seconds: float) -> None:
    try:
        ray.get(actor.ready.remote(), timeout=room_seconds)
    except GetTimeoutError:
        asked = " and ".join(
            f"{number:g} {name.removeprefix('num_').upper().rstrip('S')}s"
            for name, number in resources.items()
        )
        raise RuntimeError(
            f"rollout.shared_engine=true: Ray has found no room in {room_seconds:g} s for the "
            f"engine that trials share, which asks for {asked} beside them: end what else runs "
            "there, or set it to false"
        ) from None


def make_hosted_engine(arguments: Mapping[str, Any]) -> Engine:
    """Makes the engine, in the host's process.

    Args:
        arguments: See `engine_host`.

    Raises:
        RuntimeError: If it can take no adapters; one line.
    """
    settings = dict(arguments)
    set_num_threads(settings.pop("num_threads"))
    settings["model"] = str(resolve_model(str(settings["model"])))
    engine = make_engine(settings.pop("kind"), **settings)
    if settings["lora"] is not None and not engine.takes_adapters:
        engine.close()
        raise RuntimeError(
            f"rollout.shared_engine=true: vLLM takes no adapters for {settings['model']}, so each "
            "trial needs whole weights of its own: set it to false"
        )
    return engine


def join_shared_engine(name: str) -> SharedEngine:
    """A client of the host that has a name.

    Raises:
        EngineDiedError: If there is none; one line.
    """
    try:
        actor = ray.get_actor(name)
    except ValueError:
        raise EngineDiedError(
            "rollout.shared_engine=true, and there is no engine for these settings: `rllib-dapo "
            "train` starts one; in Python, have `with rllib_dapo.shared_engine(config, "
            "clients=...):` around the Tuner, or set it to false"
        ) from None

    def ask(method: str, *arguments: Any) -> HostAnswer:
        try:
            answer: HostAnswer = ray.get(getattr(actor, method).remote(*arguments))
        except RayActorError as error:
            raise EngineDiedError(
                "the process of the shared engine has ended: it was killed, the machine ran out of "
                "memory, or the sweep has ended it"
            ) from error
        return answer

    return SharedEngine(ask)
