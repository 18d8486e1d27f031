"""Which MCP servers an environment's tools come from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rllib_dapo.envs.env_settings import check_address, merge_settings

_DEFAULTS: Mapping[str, Any] = {
    "command": None,
    "url": None,
    "environment": (),
    "tools": None,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSettings:
    """A server that is started as a program, or one that runs already.

    Attributes:
        name: What it is called in messages.
        command: The program and its arguments; empty for a server with an address. No shell reads
            them.
        url: Its address (Streamable HTTP); empty for a program.
        environment: Environment variables that the program may read, with their values, beside the
            few that every program needs.
        tools: Names of the tools that the model may call; None: all of them.
    """

    name: str
    command: tuple[str, ...] = ()
    url: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    tools: frozenset[str] | None = None


def check_servers(setting: str, given: Any) -> tuple[ServerSettings, ...]:
    """Reads the setting `servers`.

    Args:
        setting: Its name, for messages.
        given: A mapping from names to mappings with `command` (a list) or `url`, and perhaps
            `environment` (names of variables) and `tools` (names).

    Raises:
        ValueError: If one of them is refused; one line.
    """
    if not isinstance(given, Mapping) or not given:
        raise ValueError(
            f"{setting}={given!r}: must be a mapping from names to servers, such as "
            '{"files": {"command": ["uvx", "mcp-server-time"]}}'
        )
    return tuple(_server(f"{setting}.{name}", str(name), one) for name, one in given.items())


def _server(setting: str, name: str, given: Any) -> ServerSettings:
    if not isinstance(given, Mapping):
        raise ValueError(f"{setting}={given!r}: must be a mapping with command or url")
    value = merge_settings(setting, _DEFAULTS, given)
    if (value["command"] is None) == (value["url"] is None):
        raise ValueError(f"{setting}: must have one of command and url")

    tools = value["tools"]
    return ServerSettings(
        name=name,
        command=() if value["command"] is None else _texts(f"{setting}.command", value["command"]),
        url="" if value["url"] is None else _address(f"{setting}.url", value["url"]),
        environment=_environment(f"{setting}.environment", value["environment"]),
        tools=None if tools is None else frozenset(_texts(f"{setting}.tools", tools)),
    )


def _texts(name: str, value: Any) -> tuple[str, ...]:
    is_listed = isinstance(value, list | tuple) and value
    if not is_listed or not all(isinstance(one, str) and one and "\0" not in one for one in value):
        raise ValueError(f"{name}={value!r}: must be a list of texts")
    return tuple(value)


def _address(name: str, value: Any) -> str:
    parts = check_address(name, value, example="http://localhost:8000/mcp")
    if parts.username or parts.password:
        raise ValueError(f"{name}: must not hold a user or a password")  # which is not shown
    return str(value)


def _environment(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    """Reads names of variables; their values, which may be keys, stand in no run file."""
    names = () if not value else _texts(name, value)
    for variable in names:
        if variable not in os.environ:
            raise ValueError(f"{name}: the variable {variable!r} is not set where environments run")
    return tuple((variable, os.environ[variable]) for variable in names)
