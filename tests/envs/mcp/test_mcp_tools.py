"""Tools of real MCP servers: declared, called, and what is lost when one fails."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from rllib_dapo.envs.mcp.mcp_tools import McpToolsEnv
from rllib_dapo.envs.mcp.server_connection import McpError
from rllib_dapo.envs.mcp.server_settings import check_servers
from rllib_dapo.envs.tools import ModelTurn, ToolCall

SERVER = str(Path(__file__).with_name("server.py"))
COMMAND = [sys.executable, SERVER]
MakeEnv = Callable[..., McpToolsEnv]


@pytest.fixture
def make_env(tmp_path: Path) -> Iterator[MakeEnv]:
    path = tmp_path / "sums.jsonl"
    path.write_text(json.dumps({"question": "2+3=", "answer": "5"}) + "\n")
    made: list[McpToolsEnv] = []

    def make(server: dict[str, Any] | None = None, **settings: Any) -> McpToolsEnv:
        problems = {"path": str(path), "answer_rule": "last_number", "template": "{problem}"}
        servers = {"planted": {"command": COMMAND, **(server or {})}}
        given = {
            "servers": servers,
            "problem_config": problems,
            "connect_seconds": 120.0,
            "call_seconds": 60.0,
            **settings,
        }
        made.append(McpToolsEnv(given))
        return made[-1]

    yield make
    for env in made:
        env.close()


def turn(name: str, **arguments: Any) -> ModelTurn:
    """A response that calls a tool."""
    return ModelTurn.of(ModelTurn("", tool_calls=[ToolCall(name=name, arguments=arguments)]))


def answered(env: McpToolsEnv, name: str, **arguments: Any) -> str:
    """What the model reads after a call."""
    [message] = env.step(turn(name, **arguments))[0]
    assert message["role"] == "tool"
    return str(message["content"])


def test_tools_are_declared_called_and_the_answer_is_scored(make_env: MakeEnv) -> None:
    env = make_env()
    prompt, info = env.reset(seed=0)
    assert prompt == "2+3="
    tools = {tool["function"]["name"]: tool["function"] for tool in info["tools"]}
    assert {"add", "count", "fail", "die", "hang"} <= set(tools)
    assert tools["add"]["description"] == "Add two whole numbers."
    assert set(tools["add"]["parameters"]["properties"]) == {"a", "b"}

    assert answered(env, "add", a=2, b=3) == "5"
    assert answered(env, "fail").startswith("error: ")
    assert "out of order" in answered(env, "fail")
    assert answered(env, "add", a="two").startswith("error: the arguments of add do not fit")
    assert answered(env, "rm").startswith("error: there is no tool 'rm'")
    assert len(answered(env, "babble")) == 100_000
    _, reward, terminated, _, info = env.step("It is 5")
    assert (reward, terminated, info["is_correct"]) == (1.0, True, True)

    # the session lasts beyond the episode
    env.reset(seed=0)
    assert [answered(env, "count") for _ in range(2)] == ["1", "2"]
    env.reset(seed=0)
    assert answered(env, "count") == "3"


def test_with_restart_every_episode_meets_a_new_server(make_env: MakeEnv) -> None:
    env = make_env(restart=True)
    for _ in range(2):
        env.reset(seed=0)
        assert answered(env, "count") == "1"


def test_a_server_that_dies_costs_a_verdict_and_is_started_again(make_env: MakeEnv) -> None:
    env = make_env()
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step(turn("die"))
    assert math.isnan(reward)
    assert terminated
    assert info["missing_reason"].startswith("unreachable: the MCP server 'planted'"), info
    env.reset(seed=0)
    assert answered(env, "add", a=1, b=1) == "2"


def test_a_call_that_hangs_costs_a_verdict(make_env: MakeEnv) -> None:
    env = make_env(call_seconds=0.5)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(turn("hang"))
    assert math.isnan(reward)
    assert info["missing_reason"].startswith("unreachable: the MCP server 'planted'"), info


def test_a_program_sees_few_variables_and_those_that_are_named(
    make_env: MakeEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "1")
    monkeypatch.setenv("MY_SECRET", "2")
    env = make_env({"environment": ["MY_TOKEN"], "tools": ["secrets"]})
    _, info = env.reset(seed=0)
    assert [tool["function"]["name"] for tool in info["tools"]] == ["secrets"]
    seen = answered(env, "secrets").split()
    assert "MY_TOKEN" in seen
    assert "MY_SECRET" not in seen
    assert answered(env, "add", a=1, b=1).startswith("error: there is no tool 'add'")


def test_two_servers_must_not_have_tools_of_one_name(make_env: MakeEnv) -> None:
    server = {"command": COMMAND, "tools": ["add", "count"]}
    env = make_env(servers={"one": server, "other": {**server, "tools": ["add"]}})
    with pytest.raises(ValueError, match=r"'one' and 'other' both have a tool 'add': name in"):
        env.reset(seed=0)
    env = make_env(
        servers={"one": {**server, "tools": ["count"]}, "other": server | {"tools": ["add"]}}
    )
    env.reset(seed=0)
    assert answered(env, "count") == "1"
    assert answered(env, "add", a=1, b=2) == "3"


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ({"command": ["/no/such/program"]}, r"^the MCP server 'planted': "),
        ({"command": [sys.executable, "-c", "print('hello')"]}, r"^the MCP server 'planted': "),
        ({"tools": ["subtract"]}, r"^the MCP server 'planted' has no tool 'subtract'; there are: "),
        ({"command": None, "url": "http://127.0.0.1:9/mcp"}, r"^the MCP server 'planted': "),
    ],
    ids=["no-program", "no-server", "no-tool", "no-address"],
)
def test_what_is_no_server_is_refused_in_a_line(
    make_env: MakeEnv, server: dict[str, Any], message: str
) -> None:
    env = make_env(server)
    with pytest.raises(McpError, match=message) as caught:
        env.reset(seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, r"^servers=None: must be a mapping from names to servers"),
        ({}, r"^servers=\{\}: must be a mapping"),
        ({"a": "uvx"}, r"^servers\.a='uvx': must be a mapping with command or url"),
        ({"a": {}}, r"^servers\.a: must have one of command and url$"),
        ({"a": {"command": ["x"], "url": "http://h"}}, r"^servers\.a: must have one of"),
        ({"a": {"command": "uvx x"}}, r"^servers\.a\.command='uvx x': must be a list of texts"),
        ({"a": {"command": []}}, r"^servers\.a\.command=\[\]: must be a list of texts"),
        ({"a": {"url": "here"}}, r"^servers\.a\.url='here': must be an address"),
        ({"a": {"url": "http://me:pw@h"}}, r"^servers\.a\.url: must not hold a user or"),
        ({"a": {"command": ["x"], "environment": ["NOT_SET_HERE"]}}, r"'NOT_SET_HERE' is not set"),
        ({"a": {"comand": ["x"]}}, r"^servers\.a: unknown setting 'comand'.*'command'"),
    ],
    ids=[str(number) for number in range(11)],
)
def test_settings_that_cannot_be_used_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check_servers("servers", given)
    assert "\n" not in str(caught.value)
    assert "pw" not in str(caught.value)


def test_a_server_with_an_address(make_env: MakeEnv, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*COMMAND, str(port)], stdout=log, stderr=log)
    try:
        while True:
            assert process.poll() is None, (tmp_path / "log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        env = make_env({"command": None, "url": f"http://127.0.0.1:{port}/mcp"})
        env.reset(seed=0)
        assert answered(env, "add", a=20, b=22) == "42"
    finally:
        process.kill()
        process.wait()


def test_in_a_process_of_its_own_a_server_ends_with_it(make_env: MakeEnv, tmp_path: Path) -> None:
    """As EnvRunners make it: hosted, because a server is untrusted."""
    from rllib_dapo.rollout.make_environment import make_environment

    settings = make_env().settings
    names = ("servers", "problem_config")
    config = {name: settings[name] for name in names}
    env = make_environment("rllib_dapo/McpTools-v0", {**config, "verify_seconds": 60})
    assert not isinstance(env.unwrapped, McpToolsEnv)
    try:
        env.reset(seed=0)
        [message] = env.step(turn("add", a=4, b=5))[0]
        assert message["content"] == "9"
        assert _servers_of(os.getpid())
    finally:
        env.close()
    while _servers_of(os.getpid()):
        time.sleep(0.05)


def test_the_environment_is_registered() -> None:
    assert "rllib_dapo/McpTools-v0" in gymnasium.registry


def _servers_of(ancestor: int) -> list[int]:
    """Processes with the planted server that descend from a process."""
    import psutil

    found = []
    for child in psutil.Process(ancestor).children(recursive=True):
        try:
            if SERVER in child.cmdline():
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found
