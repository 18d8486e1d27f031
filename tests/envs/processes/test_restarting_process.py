import copy
import os
import pickle
import threading
from collections.abc import Callable, Iterator

import psutil
import pytest

from rllib_dapo.envs.processes.killable_process import Program
from rllib_dapo.envs.processes.replies import (
    DeadlineMissed,
    ProcessDied,
    ServiceFailed,
    ServiceRefused,
)
from rllib_dapo.envs.processes.restarting_process import RestartingProcess

DEADLINE = 120.0  # for what does not hang


@pytest.fixture
def make(program: Callable[..., Program]) -> Iterator[Callable[..., RestartingProcess]]:
    made = []

    def make_process(**given: object) -> RestartingProcess:
        made.append(RestartingProcess(program(**given)))
        return made[-1]

    yield make_process
    for process in made:
        process.kill()


def test_it_replies_in_one_process_whatever_the_text(
    make: Callable[..., RestartingProcess],
) -> None:
    process = make()
    odd = "\0\ud800\u202e\n\"{}'" + "x" * 100_000
    replies = [process.call({"do": "echo", "text": t}, deadline=DEADLINE) for t in ("a", odd)]
    assert [reply["text"] for reply in replies] == ["a", odd]
    assert {reply["pid"] for reply in replies} == {process.pid}


def test_its_environment_variables_and_settings_reach_the_service(
    make: Callable[..., RestartingProcess],
) -> None:
    process = make(environment={"SET": "1"})
    assert process.call({"do": "environ", "name": "SET"}, deadline=DEADLINE) == "1"
    with pytest.raises(ServiceRefused, match=r"^not today, sorry$"):
        make(settings={"refuse": "not\ntoday, sorry"}).start()


def test_one_that_misses_its_deadline_is_killed_and_the_next_call_starts_another(
    make: Callable[..., RestartingProcess],
) -> None:
    process = make()
    pid = process.call({"do": "echo"}, deadline=DEADLINE)["pid"]
    with pytest.raises(DeadlineMissed, match=r"^no reply within 0\.2 s$"):
        process.call({"do": "hang"}, deadline=0.2)
    assert not psutil.pid_exists(pid)
    assert process.call({"do": "echo"}, deadline=DEADLINE)["pid"] != pid


def test_one_that_dies_is_told_and_replaced(
    make: Callable[..., RestartingProcess], eventually: Callable[[Callable[[], object]], None]
) -> None:
    process = make()
    with pytest.raises(ProcessDied, match=r"^the process ended with status 3$"):
        process.call({"do": "exit"}, deadline=DEADLINE)
    pid = process.call({"do": "echo"}, deadline=DEADLINE)["pid"]
    os.kill(pid, 9)
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert process.call({"do": "echo"}, deadline=DEADLINE)["pid"] != pid


def test_what_the_service_raises_is_told_and_the_process_goes_on(
    make: Callable[..., RestartingProcess],
) -> None:
    process = make()
    pid = process.call({"do": "echo"}, deadline=DEADLINE)["pid"]
    with pytest.raises(ServiceFailed, match=r"^RuntimeError: what is this$"):
        process.call({"do": "raise"}, deadline=DEADLINE)
    assert process.call({"do": "echo"}, deadline=DEADLINE)["pid"] == pid


def test_one_that_never_gets_ready_is_given_up(make: Callable[..., RestartingProcess]) -> None:
    with pytest.raises(ProcessDied, match=r"^the process ended with status 1$"):
        make(settings={"end": 1}).start()


def test_closing_ends_the_process_and_closing_again_does_nothing(
    make: Callable[..., RestartingProcess],
) -> None:
    process = make()
    pid = process.call({"do": "echo"}, deadline=DEADLINE)["pid"]
    process.close()
    process.close()
    assert not psutil.pid_exists(pid)


def test_a_forgotten_one_ends(program: Callable[..., Program]) -> None:
    process = RestartingProcess(program())
    pid = process.call({"do": "echo"}, deadline=DEADLINE)["pid"]
    del process
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda process: pickle.loads(pickle.dumps(process))]
)
def test_a_copy_has_a_process_of_its_own(
    make: Callable[..., RestartingProcess],
    duplicate: Callable[[RestartingProcess], RestartingProcess],
) -> None:
    process = make()
    pid = process.call({"do": "echo"}, deadline=DEADLINE)["pid"]
    twin = duplicate(process)
    assert twin.call({"do": "echo"}, deadline=DEADLINE)["pid"] != pid
    assert process.call({"do": "echo"}, deadline=DEADLINE)["pid"] == pid
    twin.kill()


def test_it_outlives_the_thread_that_started_it(make: Callable[..., RestartingProcess]) -> None:
    process = make()
    thread = threading.Thread(target=process.start)
    thread.start()
    thread.join()
    pid = process.pid
    assert process.call({"do": "echo"}, deadline=DEADLINE)["pid"] == pid


def test_one_that_keeps_what_it_took_is_replaced(make: Callable[..., RestartingProcess]) -> None:
    process = make(memory_allowance=64 << 20)
    pid = process.call({"do": "keep", "bytes": 40 << 20}, deadline=DEADLINE)["pid"]
    assert process.call({"do": "echo"}, deadline=DEADLINE)["pid"] != pid
    with pytest.raises(ServiceFailed, match=r"^out of memory$"):
        process.call({"do": "keep", "bytes": 100 << 20}, deadline=DEADLINE)


def test_one_that_passes_its_total_says_so(make: Callable[..., RestartingProcess]) -> None:
    process = make(memory_total=1 << 30)
    with pytest.raises(ServiceFailed, match=r"^out of memory$"):
        process.call({"do": "keep", "bytes": 1 << 30}, deadline=DEADLINE)
