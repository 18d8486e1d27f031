"""Whether a Ray that a run is to join answers, asked before `ray.init` waits for it."""

from __future__ import annotations

import os
import socket

import ray

from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.ray_internals import canonicalize_bootstrap_address, find_bootstrap_address

_CONNECTS_WITHIN_S = 5.0
_VARIABLE = "RAY_ADDRESS"


def check_ray_address(address: str | None = None, *, option: str = "") -> None:
    """Refuses an address at which no Ray can be.

    Args:
        address: `host:port` of Ray's head; by default what `RAY_ADDRESS` names, or the Ray that was
            started on this machine, if there is one.
        option: What gave the address, for messages.

    Raises:
        SettingsError: If nothing answers there.
    """
    if ray.is_initialized():
        return
    if address is None:
        address, option = os.environ.get(_VARIABLE) or None, f"{_VARIABLE}="
    told = f"{option}{address}" if address else "the Ray that was started on this machine"

    if address and address.startswith("ray://"):
        raise SettingsError(
            f"{told}: a run cannot be driven through Ray's client: give host:port of the head to a "
            "process on the cluster, or use `ray job submit`"
        )
    if address == "auto" and not find_bootstrap_address(None):
        raise SettingsError(
            f"{told}: no Ray is running here: start one with `ray start --head`, or leave it out"
        )
    try:
        place = canonicalize_bootstrap_address(address)
    except (ValueError, OSError) as error:
        raise SettingsError(
            f"{told}: must be host:port of Ray's head: {one_line(error)}"
        ) from error
    if place is not None:
        _connect(place, told)


def _connect(place: str, told: str) -> None:
    host, _, port = place.rpartition(":")
    if not port.isdigit() or not 0 < int(port) <= 65535:
        raise SettingsError(f"{told}: must be host:port of Ray's head, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECTS_WITHIN_S).close()
    except OSError as error:
        raise SettingsError(
            f"{told}: no Ray answers at {place} ({one_line(error)}): start it with `ray start "
            f"--head`, or unset {_VARIABLE} and `ray stop` what is left of it"
        ) from error
