"""Makes an environment and chooses how it is stepped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from rllib_dapo.envs import SingleStepTextEnv
from rllib_dapo.envs.hosts.hosted_env import HostedEnv
from rllib_dapo.envs.mixture_env import MixtureEnv, make_part
from rllib_dapo.envs.processes.daemon_threads import DaemonThreads
from rllib_dapo.rollout.env_stepper import EnvStepper
from rllib_dapo.rollout.environment_guard import EnvironmentGuard
from rllib_dapo.rollout.environment_places import EnvironmentPlaces
from rllib_dapo.rollout.environment_pool import EnvironmentPool
from rllib_dapo.rollout.mixed_env_stepper import MixedEnvStepper
from rllib_dapo.rollout.pooled_env_stepper import PooledEnvStepper
from rllib_dapo.rollout.submitting_env_stepper import SubmittingEnvStepper


def make_env_stepper(
    make: Callable[[int], gym.Env[Any, Any]], *, num_threads: int, name: str = "the environment"
) -> EnvStepper:
    """Makes an environment and chooses how it is stepped.

    Args:
        make: Makes an environment, given the number of those made before.
        num_threads: Number of threads that run environments of this process. Those that run in
            processes have a thread each.
        name: What the environment is called, for messages.

    Raises:
        Exception: Whatever making the environment raises.
    """
    # With one thread, all of an environment's code runs in that one: it may hold what no other
    # thread may touch, such as a connection to a data base.
    threads = DaemonThreads(num_threads, name="environment")
    try:
        env = threads.submit(make, 0).result()
    except BaseException:
        threads.close()
        raise

    if isinstance(env, MixtureEnv):
        threads.close()
        return MixedEnvStepper(
            env,
            lambda part: make_env_stepper(
                lambda _: make_part(part), num_threads=num_threads, name=part.name
            ),
        )

    guard = EnvironmentGuard(name)
    if isinstance(env, HostedEnv):
        threads.close()
        most = env.settings.processes
        return PooledEnvStepper(
            EnvironmentPool(env, make=make),
            threads=DaemonThreads(2 * most, name="environment"),
            guard=guard,
            places=EnvironmentPlaces(most),
        )

    # A wrapper may change what `reset` and `step` return, so only a bare environment can be asked
    # in another way.
    if isinstance(env, SingleStepTextEnv) and env.takes_submissions:
        return SubmittingEnvStepper(env, threads=threads, guard=guard)
    return PooledEnvStepper(
        EnvironmentPool(env, make=make),
        threads=threads,
        guard=guard,
        places=EnvironmentPlaces(None),
    )
