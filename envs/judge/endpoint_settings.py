"""How a model behind HTTP may be asked: the settings that judges and reward models share."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rllib_dapo.envs.env_settings import check_address, check_integer, is_finite_number

ENDPOINT_DEFAULTS: Mapping[str, Any] = {
    "url": None,
    "model": None,
    "api_key_variable": None,
    "concurrency": 64,
    "requests_per_minute": None,
    "tokens_per_minute": None,
    "timeout": 60.0,
    "retries": 4,
    "cache_entries": 100_000,
    "cache_file": None,
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointSettings:
    """A model behind HTTP. Sources that are equal share connections, limits and cache in a process.

    Attributes:
        url: Address of the endpoint.
        model: Name of the model there.
        api_key_variable: Name of the environment variable that holds the key; None: no key.
        concurrency: Most requests under way, of all EnvRunners together.
        requests_per_minute: Most requests in a minute, of all together; None: no limit.
        tokens_per_minute: Most tokens in a minute, of prompts and answers together; None: no limit.
        timeout: Seconds that one request may take, from its being sent to the end of the answer.
        retries: How often a request is sent again.
        cache_entries: How many answers are kept; 0: none.
        cache_file: Where they are kept beyond the process; None: nowhere.
    """

    url: str
    model: str
    api_key_variable: str | None = None
    concurrency: int = 64
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout: float = 60.0
    retries: int = 4
    cache_entries: int = 100_000
    cache_file: str | None = None


def read_endpoint(setting: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Reads what `EndpointSettings` holds.

    Args:
        setting: Name of the setting, for messages.
        value: All settings, defaults included.

    Returns:
        The arguments of `EndpointSettings`.

    Raises:
        ValueError: If one of them is refused; one line, without the key.
    """

    def name(key: str) -> str:
        return f"{setting}.{key}"

    def positive_or_none(key: str) -> float | None:
        return None if value[key] is None else _positive(name(key), value[key])

    return {
        "url": _url(name("url"), value["url"]),
        "model": check_text(name("model"), value["model"]),
        "api_key_variable": _variable(name("api_key_variable"), value["api_key_variable"]),
        "concurrency": check_integer(name("concurrency"), value["concurrency"], low=1, high=4096),
        "timeout": _positive(name("timeout"), value["timeout"]),
        "retries": check_integer(name("retries"), value["retries"], low=0, high=100),
        "cache_entries": check_integer(name("cache_entries"), value["cache_entries"], low=0),
        "cache_file": (
            None
            if value["cache_file"] is None
            else check_text(name("cache_file"), value["cache_file"])
        ),
        "requests_per_minute": positive_or_none("requests_per_minute"),
        "tokens_per_minute": positive_or_none("tokens_per_minute"),
    }


def check_text(name: str, value: Any) -> str:
    """Returns a text that is not empty.

    Raises:
        ValueError: If it is something else; one line.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}={value!r}: must be a text")
    return value


def _url(name: str, value: Any) -> str:
    parts = check_address(name, value, example="http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        # Not shown: it holds what nobody else should read.
        raise ValueError(
            f"{name}: must not hold a user, a password or a query; name the environment variable "
            "that holds the key with api_key_variable"
        )
    return str(value)


def _variable(name: str, value: Any) -> str | None:
    """Reads the name of an environment variable; it is not shown, for it may be the key itself."""
    if value is None:
        return None
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value) or not os.environ.get(value):
        raise ValueError(
            f"{name}: must be the name of an environment variable that holds the key, and none "
            "of the given name is set where environments run"
        )
    return value


def _positive(name: str, value: Any) -> float:
    if not is_finite_number(value) or value <= 0:
        raise ValueError(f"{name}={value!r}: must be a number above 0")
    return float(value)
