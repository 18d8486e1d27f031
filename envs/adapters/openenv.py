"""An environment on an OpenEnv server, one session for each response."""

from __future__ import annotations

import json
import logging
import threading
import urllib.request
from collections.abc import Mapping
from typing import Any, ClassVar

from rllib_dapo.envs.env_settings import is_finite_number
from rllib_dapo.envs.messages import Observation
from rllib_dapo.envs.turns import Turn, TurnsEnv
from rllib_dapo.envs.verify import MissingReason

logger = logging.getLogger(__name__)

_NOT_TEXT = ("metadata", "done", "reward")  # fields of every observation


class OpenEnvEnv(TurnsEnv):
    """A client of an OpenEnv server, for environments whose actions have one text field.

    Every reset opens a session of its own, with the reset seed, and the end of an episode closes
    it. `reset` raises where the server gives no problem. A server that dies, hangs or raises during
    an episode gives no verdict: the episode is cut off (truncated), its reward is missing, and
    later episodes try again.

    Settings, with their defaults:
        url: The server's address, such as "http://localhost:8000"; has no default.
        action_field: None; the field of an action that takes the response. By default found in the
            server's schema, if only one field takes a text.
        action: {}; other fields of every action, by name.
        observation_field: None; the field of an observation that the model reads. By default the
            only text field, or all fields as JSON.
        reset_options: {}; what `reset` is called with in addition to the seed.
        deadline: 60; seconds that the server has for a reply.
        connect_deadline: 10; seconds to open a session.
        max_turns: 1; the episode is cut off after this many responses.
        success_at: None; if set, an episode whose last reward is at least this is a success.

    Raises:
        ValueError: If a setting is refused or the package is not installed.
    """

    default_settings: ClassVar[Mapping[str, Any]] = {
        "url": None,
        "action_field": None,
        "action": None,
        "observation_field": None,
        "reset_options": None,
        "deadline": 60.0,
        "connect_deadline": 10.0,
        **TurnsEnv.default_settings,
    }

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        given = self.settings
        if not isinstance(given["url"], str) or not given["url"]:
            raise ValueError(
                f"url={given['url']!r}: must be a server's address, such as 'http://localhost:8000'"
            )

        for name in ("deadline", "connect_deadline"):
            if not is_finite_number(given[name]) or given[name] <= 0:
                raise ValueError(f"{name}={given[name]!r}: must be a number of seconds over 0")
        for name in ("action", "reset_options"):
            if not isinstance(given[name] or {}, Mapping):
                raise ValueError(f"{name}={given[name]!r}: must be a mapping from names to values")

        self._make_client = _client_class()
        self._client: Any = None
        self._action_field: str | None = given["action_field"]
        self._is_cut_off = False

    def fork(self) -> OpenEnvEnv:
        """Returns an environment for an episode beside this one's."""
        other = type(self)(self.settings)
        other._action_field = self._action_field
        return other

    def begin(self, seed: int) -> str:
        """Opens a session and resets it with the seed.

        Raises:
            ConnectionError: If the server cannot be reached or gives no problem.
            ValueError: If its schema does not tell which field takes a text.
        """
        self._end_session()
        self._is_cut_off = False

        # A network or a server may raise anything.
        try:
            self._client = self._open_session()
            result = self._client.reset(seed=seed, **(self.settings["reset_options"] or {}))
            self._action_field = self._action_field or self._text_field()
            return self._text_of(result.observation)
        except Exception as error:
            self._end_session(in_background=True)
            raise _no_problem(self.settings["url"], error) from error

    def turn(self, response: str) -> Turn:
        """Sends a response; without a reply there is no verdict."""
        try:
            text = response.encode("utf-8", "replace").decode()  # half characters cannot be sent
            result = self._client.step(
                {**(self.settings["action"] or {}), self._action_field: text}
            )
            turn = Turn(
                observation=self._text_of(result.observation),
                reward=result.reward,
                done=bool(result.done),
            )
        except Exception as error:
            self._end_session(in_background=True)
            self._is_cut_off = True
            return Turn(reason=f"{_told(error)} (the server gave no verdict)")

        if turn.done:
            self._end_session()
        return turn

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Hands over a response, see `TurnsEnv.step`.

        If the server is lost, the episode is truncated.
        """
        observation, reward, terminated, truncated, info = super().step(action)
        if self._is_cut_off:
            terminated, truncated = False, True
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Ends the session, if there is one."""
        self._end_session()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client": None}

    def _open_session(self) -> Any:
        client = self._make_client(
            base_url=self.settings["url"],
            connect_timeout_s=float(self.settings["connect_deadline"]),
            message_timeout_s=float(self.settings["deadline"]),
        ).sync()
        client.connect()
        return client

    def _end_session(self, *, in_background: bool = False) -> None:
        client, self._client = self._client, None
        if client is None:
            return

        # A server that hangs does not say goodbye either, and nobody should wait for that.
        closing = threading.Thread(target=_close, args=(client,), daemon=True)
        closing.start()
        if not in_background:
            closing.join(float(self.settings["connect_deadline"]))

    def _text_field(self) -> str:
        url = self.settings["url"].rstrip("/")
        address = url.replace("ws://", "http://", 1).replace("wss://", "https://", 1)
        seconds = float(self.settings["connect_deadline"])
        with urllib.request.urlopen(f"{address}/schema", timeout=seconds) as reply:
            schema = json.load(reply)["action"]

        # The one text that an action must have, or the one that it can have.
        properties: dict[str, Any] = schema.get("properties", {})
        fields = [name for name, field in properties.items() if field.get("type") == "string"]
        needed = [name for name in fields if name in schema.get("required", [])]
        for candidates in (needed, fields):
            if len(candidates) == 1:
                return candidates[0]
        raise ValueError(
            f"action_field=None: name the one of {', '.join(fields) or 'no text fields'} "
            "for the response"
        )

    def _text_of(self, observation: Mapping[str, Any]) -> str:
        field = self.settings["observation_field"]
        fields = {name: value for name, value in observation.items() if name not in _NOT_TEXT}
        if field is not None:
            if field not in observation:
                raise ValueError(
                    f"observation_field={field!r}: the observation has {', '.join(fields)}"
                )
            fields = {field: observation[field]}
        texts: list[str] = [value for value in fields.values() if isinstance(value, str)]
        return texts[0] if len(texts) == 1 else json.dumps(fields, ensure_ascii=False)


def _client_class() -> Any:
    try:
        from openenv.core import GenericEnvClient
    except ImportError as error:
        raise ValueError(
            f"needs the package openenv ({error}): pip install -e '.[openenv]' in a checkout of "
            "rllib-dapo, then pip install --no-deps openenv==0.10.0"
        ) from error
    return GenericEnvClient


def _no_problem(url: str, error: Exception) -> Exception:
    if isinstance(error, ValueError):
        return ValueError(f"url={url!r}: {error}")
    return ConnectionError(
        f"url={url!r}: no session with an OpenEnv server ({_told(error)}); is it running?"
    )


def _told(error: Exception) -> str:
    reason = MissingReason.TIMEOUT if isinstance(error, TimeoutError) else MissingReason.CRASH
    return " ".join(f"{reason}: {type(error).__name__}: {error}".split())[:300].removesuffix(":")


def _close(client: Any) -> None:
    # The session may be half open, or the server gone: whatever closing raises, nothing is lost.
    try:
        client.close()
    except Exception:
        logger.debug("a session did not close", exc_info=True)
