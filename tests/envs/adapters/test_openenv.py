"""Against a real OpenEnv server, which the tests start and stop."""

import copy
import math
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from rllib_dapo.envs.adapters.openenv import OpenEnvEnv

pytestmark = pytest.mark.skipif(find_spec("openenv") is None, reason="needs the package openenv")


class Server:
    """The server's process, on a port of its own."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [
            sys.executable,
            str(Path(__file__).with_name("openenv_server.py")),
            str(self.port),
        ]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        assert self.process.stderr is not None

        told = []
        for line in self.process.stderr:
            told.append(line)
            if "running on" in line:
                # What it says of every session would fill the pipe in the end, and stop it.
                threading.Thread(target=self.process.stderr.read, daemon=True).start()
                return
        raise AssertionError("".join(told))

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def mortal() -> Iterator[Server]:
    """A server for one test alone, which may kill it."""
    server = Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make() -> Iterator[Callable[..., OpenEnvEnv]]:
    made = []

    def make_env(server: Server, **settings: Any) -> OpenEnvEnv:
        made.append(OpenEnvEnv({"url": server.url} | settings))
        return made[-1]

    yield make_env
    for env in made:
        env.close()


def solve(prompt: str) -> str:
    return str(sum(map(int, prompt.removesuffix("=").split("+"))))


def test_it_passes_gymnasiums_checks(server: Server) -> None:
    env = gymnasium.make("rllib_dapo/OpenEnv-v0", url=server.url)
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_an_episode_is_the_servers(server: Server, make: Callable[..., OpenEnvEnv]) -> None:
    env = make(server)
    prompt, info = env.reset(seed=5)
    assert info == {"problem_id": "5", "max_turns": 1}
    assert env.step(solve(prompt)) == ("", 1.0, True, False, {})
    env.reset(seed=5)
    assert env.step("no idea")[1] == 0.0


def test_the_problem_is_that_of_the_seed(server: Server, make: Callable[..., OpenEnvEnv]) -> None:
    env, other = make(server), make(server)
    forward = [env.reset(seed=seed)[0] for seed in range(10)]
    env.step("1")
    assert [other.reset(seed=seed)[0] for seed in reversed(range(10))] == forward[::-1]
    assert len(set(forward)) == 10


def test_a_reward_that_is_large_enough_is_a_success(
    server: Server, make: Callable[..., OpenEnvEnv]
) -> None:
    env = make(server, success_at=0.5)
    prompt, _ = env.reset(seed=0)
    assert env.step(solve(prompt))[4] == {"is_correct": True}
    env.reset(seed=0)
    assert env.step("0")[4] == {"is_correct": False}


def test_an_episode_may_have_several_turns(server: Server, make: Callable[..., OpenEnvEnv]) -> None:
    env = make(server, max_turns=3)
    prompt, _ = env.reset(seed=0)
    assert env.step("hint") == (f"over {int(solve(prompt)) - 1}", 0.0, False, False, {})
    assert env.step(solve(prompt))[1:4] == (1.0, True, False)
    env.reset(seed=0)
    assert [env.step("hint")[3] for _ in range(3)] == [False, False, True]


def test_every_response_has_a_session_and_none_is_left_open(
    server: Server, make: Callable[..., OpenEnvEnv]
) -> None:
    # The server has room for two sessions.
    env, other = make(server), make(server)
    for seed in range(15):
        for one in (env, other):
            prompt, _ = one.reset(seed=seed)
            if seed % 3:
                one.step(solve(prompt))
    env.close()
    third = make(server)
    assert third.reset(seed=0)[0] == other.reset(seed=0)[0]


def test_other_fields_of_actions_and_resets_can_be_set(
    server: Server, make: Callable[..., OpenEnvEnv]
) -> None:
    env = make(
        server, action_field="message", action={"tone": "very loud"}, reset_options={"most": 2}
    )
    assert {env.reset(seed=seed)[0] for seed in range(12)} <= {"0+0=", "0+1=", "1+0=", "1+1="}
    assert env.step("tone")[1] == 9.0


def test_the_field_that_takes_the_response_is_the_one_that_needs_a_text(
    server: Server, make: Callable[..., OpenEnvEnv]
) -> None:
    env = make(server)
    env.reset(seed=0)
    assert env._action_field == "message"


def test_what_the_model_reads_can_be_chosen(
    server: Server, make: Callable[..., OpenEnvEnv]
) -> None:
    assert make(server, observation_field="remark").reset(seed=0)[0] == '{"remark": 0}'
    with pytest.raises(
        ValueError, match=r"observation_field='texts': the observation has text, remark"
    ):
        make(server, observation_field="texts").reset(seed=0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise", "crash: RuntimeError: Server error: "),
        ("nothing", "crash: the episode ended without a reward"),
    ],
)
def test_a_server_without_an_answer_gives_no_verdict_and_the_next_one_comes(
    server: Server, make: Callable[..., OpenEnvEnv], text: str, reason: str
) -> None:
    gives_no_verdict_and_goes_on(make(server, deadline=5), text, reason)


def test_a_session_that_hangs_costs_its_deadline_and_no_other_session(
    mortal: Server, make: Callable[..., OpenEnvEnv]
) -> None:
    # A server of its own: what hangs keeps its place there for ever.
    gives_no_verdict_and_goes_on(make(mortal, deadline=5), "hang", "timeout: TimeoutError")


def gives_no_verdict_and_goes_on(env: OpenEnvEnv, text: str, reason: str) -> None:
    env.reset(seed=0)
    _, reward, _, _, info = env.step(text)
    assert math.isnan(reward)
    assert info["is_correct"] is None
    assert info["missing_reason"].startswith(reason)
    prompt, _ = env.reset(seed=1)
    assert env.step(solve(prompt))[1] == 1.0


def test_odd_texts_reach_the_server(server: Server, make: Callable[..., OpenEnvEnv]) -> None:
    env = make(server)
    for text in ("", "\0", "\ud800", "\U0001f600", "x" * 200_000):
        env.reset(seed=0)
        assert env.step(text)[1] == 0.0


def test_a_server_that_dies_costs_problems_and_verdicts_until_it_is_back(
    mortal: Server, make: Callable[..., OpenEnvEnv]
) -> None:
    env = make(mortal, connect_deadline=10)
    prompt, _ = env.reset(seed=0)
    fork = env.fork()
    prompt_of_fork, _ = fork.reset(seed=1)
    assert fork.step(solve(prompt_of_fork)) == ("", 1.0, True, False, {})

    mortal.stop()
    _, reward, _, truncated, info = env.step(solve(prompt))
    assert math.isnan(reward)
    assert truncated
    assert info["missing_reason"].startswith("crash: ")
    for one in (env, fork):
        with pytest.raises(ConnectionError, match="no session with an OpenEnv server"):
            one.reset(seed=2)

    mortal.start()
    for one in (env, fork):
        prompt, _ = one.reset(seed=2)
        assert one.step(solve(prompt))[1] == 1.0
    fork.close()


def test_a_server_that_was_never_there_is_refused(mortal: Server) -> None:
    mortal.stop()
    message = rf"^url='{mortal.url}': no session with an OpenEnv server \(.*\); is it running\?$"
    with pytest.raises(ConnectionError, match=message) as caught:
        OpenEnvEnv({"url": mortal.url, "connect_deadline": 2}).reset(seed=0)
    assert "\n" not in str(caught.value)


def test_a_reset_that_the_server_refuses_is_told(
    server: Server, make: Callable[..., OpenEnvEnv]
) -> None:
    with pytest.raises(ConnectionError, match="most is under 0"):
        make(server, reset_options={"most": -1}).reset(seed=0)


def test_a_copy_goes_its_own_way(server: Server, make: Callable[..., OpenEnvEnv]) -> None:
    env = make(server)
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    prompt, _ = twin.reset(seed=1)
    assert twin.step(solve(prompt))[1] == 1.0
    assert env.step("1")[1] == 0.0
    twin.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "^url=None: must be a server's address"),
        ({"url": ""}, "^url='': must be a server's address"),
        ({"url": "http://x", "deadline": 0}, "^deadline=0: must be a number of seconds over 0"),
        ({"url": "http://x", "action": [1]}, r"^action=\[1\]: must be a mapping"),
        ({"url": "http://x", "max_turns": -1}, "^max_turns=-1: must be at least 1"),
        ({"uri": "http://x"}, "^OpenEnvEnv: unknown setting 'uri' .*; did you mean 'url'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OpenEnvEnv(settings)
