import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest

from rllib_dapo.envs.processes.killable_process import KillableProcess, Program
from rllib_dapo.envs.processes.replies import PoolClosed, ProcessDied, read_greeting, read_reply

SECONDS = 120.0


@pytest.fixture
def process(program: Callable[..., Program]) -> Iterator[KillableProcess]:
    process = KillableProcess(program(longest_reply=10_000))
    read_greeting(process.receive(SECONDS))
    yield process
    process.kill()


def test_calls_are_replied_to_one_by_one(process: KillableProcess) -> None:
    process.send({"calls": [{"do": "echo", "n": n} for n in range(3)]})
    replies = [read_reply(process.receive(SECONDS)) for _ in range(3)]
    assert [reply.value["n"] for reply in replies] == [0, 1, 2]
    assert not any(reply.error or reply.is_worn for reply in replies)


def test_what_a_service_prints_or_reads_stays_away_from_the_replies(
    process: KillableProcess,
) -> None:
    process.send({"calls": [{"do": "print"}, {"do": "echo"}]})
    assert [read_reply(process.receive(SECONDS)).value["do"] for _ in range(2)] == ["print", "echo"]


def test_what_is_not_json_is_the_services_error(process: KillableProcess) -> None:
    process.send({"calls": [{"do": "object"}]})
    assert read_reply(process.receive(SECONDS)).error.startswith("TypeError: Object of type object")


def test_a_load_is_replied_to_and_kept(process: KillableProcess) -> None:
    process.send({"load": "nothing"})
    assert read_reply(process.receive(SECONDS)).error == "ImportError: no such thing"
    process.send({"load": "something"})
    assert not read_reply(process.receive(SECONDS)).error
    process.send({"calls": [{"do": "echo"}]})
    assert read_reply(process.receive(SECONDS)).value["loaded"] == ["something"]


def test_waiting_ends_at_the_deadline_and_when_it_is_woken(program: Callable[..., Program]) -> None:
    wake, waker = os.pipe()
    process = KillableProcess(program(), wake=wake)
    read_greeting(process.receive(SECONDS))
    process.send({"calls": [{"do": "hang"}]})
    assert process.receive(0.1) is None
    os.write(waker, b"\0")
    with pytest.raises(PoolClosed):
        process.receive(SECONDS)
    process.kill()
    os.close(wake)
    os.close(waker)


def test_one_that_says_too_much_is_not_listened_to(process: KillableProcess) -> None:
    process.send({"calls": [{"do": "echo", "text": "x" * 20_000}]})
    with pytest.raises(ProcessDied, match=r"^the process said too much$"):
        process.receive(SECONDS)


@pytest.mark.parametrize(
    "message",
    [None, 1, [], {}, {"value": 1}, {"value": 1, "is_worn": 1}, {"error": 1, "is_worn": False}],
)
def test_what_is_not_a_reply_is_refused(message: object) -> None:
    with pytest.raises(ProcessDied, match=r"^the process said what is not a reply$"):
        read_reply(message)
    with pytest.raises(ProcessDied, match=r"^the process said what is not a reply$"):
        read_greeting(message)


def test_killing_ends_what_the_service_has_started(
    process: KillableProcess, eventually: Callable[[Callable[[], object]], None]
) -> None:
    process.send({"calls": [{"do": "spawn"}]})
    spawned = read_reply(process.receive(SECONDS)).value
    process.kill()
    process.kill()
    assert process.has_ended

    def is_over() -> bool:
        # Whoever inherits it may take its time to reap it.
        try:
            return psutil.Process(spawned).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    eventually(is_over)


def test_what_json_cannot_hold_is_refused_before_a_process_starts(
    program: Callable[..., Program],
) -> None:
    before = psutil.Process().children()
    with pytest.raises(TypeError, match="not JSON serializable"):
        KillableProcess(program(settings={"refuse": object()}))
    assert psutil.Process().children() == before


HANGING = """
import json, sys, threading, time
from rllib_dapo.envs.processes.killable_process import KillableProcess, Program
from rllib_dapo.envs.processes.replies import read_greeting

path = json.loads(sys.argv[1])
process = KillableProcess(Program(service="obedient:Obedient", path=tuple(path)))
read_greeting(process.receive(120))
process.send({"calls": [{"do": "hang"}]})
print(process.pid, flush=True)
time.sleep(1000)
"""


def test_it_ends_with_its_parent_in_the_middle_of_a_call(program: Callable[..., Program]) -> None:
    command = [sys.executable, "-c", HANGING, json.dumps(program().path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    _, alive = psutil.wait_procs([child], timeout=SECONDS)
    assert not alive
