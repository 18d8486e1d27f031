"""Problems that may be solved with the tools of MCP servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rllib_dapo.envs.env_settings import check_template, is_finite_number
from rllib_dapo.envs.mcp.server_connection import McpError, ServerConnection
from rllib_dapo.envs.mcp.server_settings import check_servers
from rllib_dapo.envs.single_step_env import make_single_step_env, scored_turn
from rllib_dapo.envs.tools import Tool, ToolCall, read_tools, tool_name
from rllib_dapo.envs.tools_env import ToolsEnv
from rllib_dapo.envs.turns import Turn, TurnsEnv
from rllib_dapo.envs.verify import MissingReason


class McpToolsEnv(ToolsEnv):
    """Poses the problems of another environment, and lets the model call tools of MCP servers.

    The tools are declared in the model's chat template, and it calls them in its own format
    (`rollout.tool_call_parser`). A response without a call is the final answer, which the other
    environment scores. A call that its tool says has failed is answered by what the tool says; a
    server that dies, hangs or talks nonsense gives no verdict, and is connected to anew.

    Servers are untrusted: by default the environment, and with it what a server sends, is in a
    process with a deadline and a memory limit (`verify_seconds`, `verify_memory_mib`).

    Settings, with their defaults:
        servers: The servers by name, each with `command` (a list) or `url`, and perhaps
            `environment` and `tools`, see `check_servers`; has no default.
        problems: "rllib_dapo/Math-v0"; the environment that poses and scores, a
            `SingleStepTextEnv`.
        problem_config: {}; its settings.
        template: "{problem}"; the text around the other environment's prompt.
        connect_seconds: 30; deadline of starting a server and opening a session with it.
        call_seconds: 10; deadline of a call.
        restart: False; connect anew for each episode. For servers with a memory: the episodes of
            one problem must begin alike.
        max_turns: 8; an episode without a final answer after this many responses is a failure.
        success_at: None; if set, an episode whose reward is at least this is a success, whatever
            the scorer says.

    Raises:
        ValueError: If a setting is refused, by this environment or by the other.
    """

    needs_process: ClassVar[bool] = True

    default_settings: ClassVar[Mapping[str, Any]] = {
        **TurnsEnv.default_settings,
        "max_turns": 8,
        "servers": None,
        "problems": "rllib_dapo/Math-v0",
        "problem_config": None,
        "template": "{problem}",
        "connect_seconds": 30.0,
        "call_seconds": 10.0,
        "restart": False,
    }

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        given = self.settings
        self._servers = check_servers("servers", given["servers"])
        self._template = check_template("template", given["template"], "problem")
        for name in ("connect_seconds", "call_seconds"):
            if not is_finite_number(given[name]) or given[name] <= 0:
                raise ValueError(f"{name}={given[name]!r}: must be a number above 0")
        if not isinstance(given["restart"], bool):
            raise ValueError(f"restart={given['restart']!r}: must be true or false")

        self._problems = make_single_step_env(given["problems"], given["problem_config"])
        self._connections: list[ServerConnection] = []
        self._declared: list[Tool] = []
        self._by_tool: dict[str, ServerConnection] = {}
        self._seed = 0

    def begin(self, seed: int) -> str:
        """Connects to the servers, if that has to be done, and poses the problem of the seed.

        Raises:
            McpError: If a server cannot be reached.
            ValueError: If its tools cannot be declared.
        """
        if self.settings["restart"]:
            self._disconnect()
        if not self._connections:
            self._connect()
        self._seed = seed
        return self._template.format(problem=self._problems.problem(seed).prompt)

    def tools(self) -> list[Tool]:
        """Returns the tools of all servers."""
        return self._declared

    def call(self, call: ToolCall) -> str:
        """Has the tool's server run the call."""
        return self._by_tool[call.name].call(call.name, call.arguments)

    def turn(self, response: str) -> Turn:
        """Returns the results of calls, or has the final answer scored."""
        try:
            return super().turn(response)
        except McpError as error:
            self._disconnect()
            return Turn(reason=f"{MissingReason.UNREACHABLE}: {error}")

    def answer(self, response: str) -> Turn:
        """Has the other environment score the final answer."""
        return scored_turn(self._problems, self._seed, response)

    def close(self) -> None:
        """Ends the sessions, and the servers that were started."""
        self._disconnect()
        self._problems.close()
        super().close()  # type: ignore[no-untyped-call]  # Gymnasium's

    def _connect(self) -> None:
        try:
            seconds = {name: self.settings[name] for name in ("connect_seconds", "call_seconds")}
            for server in self._servers:
                self._connections.append(ServerConnection(server, **seconds))
            for connection in self._connections:
                self._declare(connection)
        except BaseException:
            self._disconnect()
            raise

    def _declare(self, connection: ServerConnection) -> None:
        for tool in read_tools(connection.tools()):
            name = tool_name(tool)
            if name in self._by_tool:
                one, other = self._by_tool[name].settings.name, connection.settings.name
                raise ValueError(
                    f"the MCP servers {one!r} and {other!r} both have a tool {name!r}: name in "
                    "tools which one the model may call"
                )
            self._declared.append(tool)
            self._by_tool[name] = connection

    def _disconnect(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections, self._declared, self._by_tool = [], [], {}
