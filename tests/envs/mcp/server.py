"""An MCP server over standard input and output, or HTTP, whose tools do what tests ask for."""

from __future__ import annotations

import os
import sys
import time

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("planted")
called: list[int] = []


@server.tool()
def add(a: int, b: int) -> str:
    """Add two whole numbers."""
    return str(a + b)


@server.tool()
def count() -> str:
    """Say how often this tool has been called."""
    called.append(1)
    return str(len(called))


@server.tool()
def fail() -> str:
    """Fail."""
    raise ToolError("out of order")


@server.tool()
def die() -> str:
    """End the server."""
    os._exit(3)


@server.tool()
def hang() -> str:
    """Take for ever."""
    time.sleep(3600)
    return ""


@server.tool()
def babble() -> str:
    """Say a lot."""
    return "x" * 3_000_000


@server.tool()
def secrets() -> str:
    """Say which variables of the environment there are."""
    return " ".join(sorted(os.environ))


if __name__ == "__main__":
    if sys.argv[1:]:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")
