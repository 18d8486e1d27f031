"""Which environments run in processes of their own, and within which bounds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rllib_dapo.envs.base import SingleStepTextEnv
from rllib_dapo.envs.env_settings import check_choice, check_integer, is_finite_number
from rllib_dapo.envs.hosts.construction import environment_class
from rllib_dapo.envs.scoring import PLACES, SCORING_SETTINGS

_OWN_PACKAGE = "rllib_dapo.envs"
_LEAST_PROCESSES, _MOST_PROCESSES = 8, 64  # by default: one for each core, within these


@dataclass(frozen=True, kw_only=True, slots=True)
class HostSettings:
    """Bounds of the processes that environments run in.

    Attributes:
        seconds: Deadline of a call of `reset` or `step`.
        memory_mib: How much calls may take, in MiB, beyond what the process holds once the
            environment is made.
        processes: How many environments there are at a time, each in a process of its own.
    """

    seconds: float = float(SCORING_SETTINGS["verify_seconds"])
    memory_mib: int = SCORING_SETTINGS["verify_memory_mib"]
    processes: int = min(max(os.cpu_count() or 1, _LEAST_PROCESSES), _MOST_PROCESSES)


def take_host_settings(
    env: Any, env_config: Mapping[str, Any]
) -> tuple[HostSettings | None, dict[str, Any]]:
    """Takes the settings of where an environment runs out of all of its settings.

    A `SingleStepTextEnv` with rules of this package has these settings itself, and sends its
    responses to the verifier pool. Any other environment knows nothing of them: with
    `verify_in="process"` it runs in a process as a whole, and with "auto" if its class attribute
    `needs_process` is True. One that is made of others (`hosts_parts`) leaves these settings to
    them.

    Args:
        env: A class or other maker, or the id or specification of a registered environment.
        env_config: Its settings, `environment.env_config`.

    Returns:
        The bounds, None if the environment runs in this process; and the environment's own
        settings.

    Raises:
        ValueError: If one of the settings is refused.
    """
    cls = environment_class(env)
    own = dict(env_config)
    if getattr(cls, "hosts_parts", False):
        return None, own
    if cls is not None and issubclass(cls, SingleStepTextEnv):
        is_wanted = own.get("verify_in", "auto") == "process" or (
            own.get("verify_in", "auto") == "auto" and cls.needs_process is True
        )
        # Who compares the responses of a group needs all of them in one place.
        if not is_wanted or not _scores_by_itself(cls) or cls.scores_groups is True:
            return None, own
        given = {name: own.pop(name) for name in SCORING_SETTINGS if name in own}
        return _read(given), {**own, "verify_in": "here"}

    place = check_choice("verify_in", own.get("verify_in", "auto"), PLACES)
    if cls is None and place != "process":
        return None, own  # what a function makes may be a `SingleStepTextEnv`
    if place == "auto" and getattr(cls, "needs_process", False) is True:
        place = "process"
    given = {name: own.pop(name) for name in SCORING_SETTINGS if name in own}
    settings = _read(given)
    return settings if place == "process" else None, own


def _scores_by_itself(cls: type[SingleStepTextEnv]) -> bool:
    """Whether both the problems and the scores of a class are a user's own code."""
    is_users = not cls.__module__.startswith(_OWN_PACKAGE)
    has_own_score = cls.scoring_rule is SingleStepTextEnv.scoring_rule
    return is_users and has_own_score


def _read(given: Mapping[str, Any]) -> HostSettings:
    default = HostSettings()
    seconds = given.get("verify_seconds", default.seconds)
    if not is_finite_number(seconds) or seconds <= 0:
        raise ValueError(f"verify_seconds={seconds!r}: must be a number above 0")

    memory = given.get("verify_memory_mib", default.memory_mib)
    processes = given.get("verify_processes")
    return HostSettings(
        seconds=float(seconds),
        memory_mib=check_integer("verify_memory_mib", memory, low=16),
        processes=default.processes
        if processes is None
        else check_integer("verify_processes", processes, low=1, high=1024),
    )
