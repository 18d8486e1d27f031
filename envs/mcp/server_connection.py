"""A connection to an MCP server, for code that waits for its answers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from typing import TYPE_CHECKING, Any, TypeVar

from rllib_dapo.envs.hosts.outcomes import one_line
from rllib_dapo.envs.mcp.server_settings import ServerSettings
from rllib_dapo.envs.processes.event_loop_thread import run_in_loop
from rllib_dapo.envs.tools import MOST_TOOLS, Tool
from rllib_dapo.envs.tools_env import ToolError

if TYPE_CHECKING:
    from mcp import Client

T = TypeVar("T")

_NEEDS = "rllib_dapo/McpTools-v0 needs the package mcp: pip install mcp"
# Beyond the deadline of what it waits for, so that the client's own message comes first.
_GRACE_SECONDS = 5.0
_MOST_PAGES = 100  # of a server's list of tools


class McpError(RuntimeError):
    """A server cannot be reached, has ended, or does not speak the protocol; one line."""


class ServerConnection:
    """An open session with a server.

    A server that is a program ends with this process, however that ends, where the system has
    `setpriv`; elsewhere it ends when its input is closed, as the protocol asks of it.

    Args:
        settings: The server.
        connect_seconds: Deadline of opening the session, and of asking which tools there are.
        call_seconds: Deadline of a call.

    Raises:
        McpError: If there is no session within the deadline.
        ModuleNotFoundError: If the client's package is not installed.
    """

    def __init__(
        self, settings: ServerSettings, *, connect_seconds: float, call_seconds: float
    ) -> None:
        self.settings = settings
        self._connect_seconds, self._call_seconds = connect_seconds, call_seconds
        self._client: Client | None = None
        self._stop: asyncio.Event | None = None
        self._opened: Future[None] = Future()
        self._lived = run_in_loop(self._live())
        try:
            self._opened.result(connect_seconds)
        except NotInTime:
            self.close()
            raise McpError(f"{self._told}: no session within {connect_seconds:g} s") from None
        except McpError:
            self.close()
            raise

    def tools(self) -> list[Tool]:
        """Returns the tools that the model may call, in the form of OpenAI's interface.

        Raises:
            McpError: If the server does not say which it has, or lacks one that is named.
        """
        found = self._result(self._list(), self._connect_seconds)
        allowed = self.settings.tools
        names = [tool["function"]["name"] for tool in found]
        if allowed is not None and (lacking := sorted(allowed - set(names))):
            known = ", ".join(names[:20])
            raise McpError(f"{self._told} has no tool {lacking[0]!r}; there are: {known}")
        return [tool for tool in found if allowed is None or tool["function"]["name"] in allowed]

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Calls a tool and returns the text of its result.

        Raises:
            ToolError: If the tool says that the call failed; the model may read why.
            McpError: If the server gives no result within the deadline.
        """
        result = self._result(self._call(name, dict(arguments)), self._call_seconds)
        text = "\n".join(_as_text(block) for block in result.content)
        if result.is_error:
            raise ToolError(text or "the call failed")
        return text

    def close(self) -> None:
        """Ends the session, and the server's program."""
        if self._stop is not None:
            stop = self._stop
            with contextlib.suppress(Exception):
                run_in_loop(_set(stop)).result(_GRACE_SECONDS)
        else:
            self._lived.cancel()
        # The client gives a program a few seconds to end, and kills it then.
        with contextlib.suppress(Exception):
            self._lived.result(2 * _GRACE_SECONDS)

    @property
    def _told(self) -> str:
        return f"the MCP server {self.settings.name!r}"

    async def _live(self) -> None:
        """Holds the session open: it has to be closed by the task that has opened it."""
        try:
            async with self._make_client() as client:
                self._client, self._stop = client, asyncio.Event()
                self._opened.set_result(None)
                await self._stop.wait()
        except BaseException as error:
            if not self._opened.done():
                self._opened.set_exception(McpError(f"{self._told}: {_cause(error)}"))
            if not isinstance(error, Exception | BaseExceptionGroup):
                raise
        finally:
            self._client = None

    def _make_client(self) -> Client:
        try:
            from mcp import Client
            from mcp.client.stdio import StdioServerParameters
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(_NEEDS) from error

        if self.settings.url:
            server: Any = self.settings.url
        else:
            command, *arguments = _bound_to_this_process(self.settings.command)
            server = StdioServerParameters(
                command=command, args=arguments, env=dict(self.settings.environment)
            )
        # Nobody answers a server that asks back: neither the user nor the model that is trained.
        return Client(server, read_timeout_seconds=self._connect_seconds, cache=None)

    async def _list(self) -> list[Tool]:
        tools: list[Tool] = []
        cursor = None
        for _ in range(_MOST_PAGES):
            page = await self._session.list_tools(cursor=cursor)
            tools += [_tool(one) for one in page.tools]
            cursor = page.next_cursor
            if cursor is None or len(tools) > MOST_TOOLS:
                break
        return tools

    async def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        seconds = self._call_seconds
        return await self._session.call_tool(name, arguments, read_timeout_seconds=seconds)

    @property
    def _session(self) -> Client:
        if self._client is None:
            raise McpError(f"{self._told} has ended")
        return self._client

    def _result(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        future = run_in_loop(work)
        # Whatever the client raises of what a server sent, that is the server's fault.
        try:
            return future.result(seconds + _GRACE_SECONDS)
        except McpError:
            raise
        except NotInTime:
            future.cancel()
            raise McpError(f"{self._told} took more than {seconds:g} s") from None
        except Exception as error:
            raise McpError(f"{self._told}: {_cause(error)}") from error


def _tool(found: Any) -> Tool:
    function = {
        "name": found.name,
        "description": found.description or found.title or "",
        "parameters": found.input_schema,
    }
    return {"type": "function", "function": function}


def _as_text(block: Any) -> str:
    """The model reads texts alone; of a picture or a file it reads that there is one."""
    text = getattr(block, "text", None)
    if isinstance(text, str):
        return text
    resource = getattr(getattr(block, "resource", None), "text", None)
    return resource if isinstance(resource, str) else f"[{getattr(block, 'type', 'content')}]"


def _bound_to_this_process(command: tuple[str, ...]) -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--", *command) if setpriv else command


def _cause(error: BaseException) -> str:
    """The first thing that went wrong, of a group of them, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return one_line(str(error) or type(error).__name__)


async def _set(event: asyncio.Event) -> None:
    event.set()
