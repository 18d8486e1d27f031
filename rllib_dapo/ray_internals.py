"""Every private name of Ray that this package uses, each with the reason: what to look at first with a new Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray._common.deprecation import DEPRECATED_VALUE
from ray._private.accelerators import get_accelerator_manager_for_resource
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray._private.ray_logging import global_worker_stdstream_dispatcher
from ray._private.services import find_bootstrap_address
from ray._private.utils import get_num_cpus
from ray.train._internal.storage import get_fs_and_path

if TYPE_CHECKING:
    from ray.rllib.env.env_runner_group import EnvRunnerGroup
    from ray.train._internal.storage import StorageContext

__all__ = [
    "DEPRECATED_VALUE",
    "StorageContext",
    "construction_errors",
    "find_bootstrap_address",
    "get_accelerator_manager_for_resource",
    "get_fs_and_path",
    "get_num_cpus",
    "global_worker_stdstream_dispatcher",
    "maybe_enable_token_auth_if_token_available",
]


def construction_errors(group: EnvRunnerGroup) -> list[Any]:
    """Why the EnvRunners of a group are not alive: RLlib keeps the errors of their constructors to itself."""
    answers = group._worker_manager.foreach_actor("ping", healthy_only=False)
    return [answer.get() for answer in answers if not answer.ok]
