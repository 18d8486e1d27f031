import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from rllib_dapo.envs.processes.killable_process import Program
from rllib_dapo.envs.processes.pool_worker import Job, Load
from rllib_dapo.envs.processes.process_pool import ProcessPool
from rllib_dapo.envs.processes.replies import (
    DeadlineMissed,
    LoadFailed,
    PoolClosed,
    ProcessDied,
    ProcessFailure,
    Reply,
    ServiceRefused,
    no_reply,
)


@pytest.fixture
def make(program: Callable[..., Program]) -> Iterator[Callable[..., ProcessPool]]:
    made = []

    def make_pool(*, seconds: float = 300.0, **given: Any) -> ProcessPool:
        made.append(ProcessPool(program(**given), seconds=seconds, processes=2))
        return made[-1]

    yield make_pool
    for pool in made:
        pool.close()


def read(outcome: Reply | ProcessFailure) -> Any:
    """Takes a reply for what it is, but refuses one that says so."""
    if isinstance(outcome, Reply) and outcome.value and outcome.value.get("do") == "nonsense":
        raise no_reply()
    return outcome


def ask(pool: ProcessPool, do: str, **given: Any) -> Future[Any]:
    future: Future[Any] = Future()
    pool.submit(Job(content={"do": do}, future=future, read=read, **given))
    return future


def test_jobs_get_their_replies_whether_they_travel_together_or_not(
    make: Callable[..., ProcessPool],
) -> None:
    pool = make()
    asked = [ask(pool, f"echo {i}", is_quick=i % 3 != 0) for i in range(100)]
    assert [future.result().value["do"] for future in asked] == [f"echo {i}" for i in range(100)]


@pytest.mark.parametrize(
    ("do", "kind", "message"),
    [
        ("hang", DeadlineMissed, "no reply within 3 s"),
        ("exit", ProcessDied, "the process ended with status 3"),
        ("nonsense", ProcessDied, "the process said what is not a reply"),
    ],
)
def test_a_job_that_is_lost_is_told_why_and_no_other_one_is(
    make: Callable[..., ProcessPool], do: str, kind: type[ProcessFailure], message: str
) -> None:
    pool = make(seconds=3.0 if do == "hang" else 300.0)
    asked = [ask(pool, do if i == 4 else "echo", is_quick=True) for i in range(10)]
    lost = asked.pop(4).result()
    assert (type(lost), str(lost)) == (kind, message)
    assert all(future.result().value["do"] == "echo" for future in asked)


def test_what_a_job_needs_is_loaded_once_in_each_process(make: Callable[..., ProcessPool]) -> None:
    pool = make()
    load = Load(key="a", content="something")
    asked = [ask(pool, "echo", load=load) for _ in range(20)]
    assert {tuple(future.result().value["loaded"]) for future in asked} == {("something",)}
    failed = ask(pool, "echo", load=Load(key="b", content="nothing")).result()
    assert (type(failed), str(failed)) == (LoadFailed, "ImportError: no such thing")


def test_a_service_that_refuses_its_settings_is_told_to_each_job(
    make: Callable[..., ProcessPool],
) -> None:
    pool = make(settings={"refuse": "no"})
    for outcome in [ask(pool, "echo").result() for _ in range(3)]:
        assert (type(outcome), str(outcome)) == (ServiceRefused, "no")


def test_closing_settles_what_is_open_and_what_comes_later(
    make: Callable[..., ProcessPool],
) -> None:
    pool = make()
    waiting = [ask(pool, "hang") for _ in range(5)]
    pool.close()
    outcomes = [future.result(timeout=120) for future in (*waiting, ask(pool, "echo"))]
    assert {type(outcome) for outcome in outcomes} == {PoolClosed}


FORKING = """
import json, os, sys
from concurrent.futures import Future
from rllib_dapo.envs.processes.killable_process import Program
from rllib_dapo.envs.processes.pool_worker import Job
from rllib_dapo.envs.processes.process_pool import ProcessPool


def ask():
    program = Program(service="obedient:Obedient", path=tuple(json.loads(sys.argv[1])))
    pool, future = ProcessPool(program, seconds=300.0, processes=1), Future()
    pool.submit(Job(content={"do": "echo"}, future=future, read=lambda reply: reply.value["do"]))
    assert future.result() == "echo"
    pool.close()


ask()
pid = os.fork()
ask()
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_forked_copy_of_a_process_can_have_a_pool_too(program: Callable[..., Program]) -> None:
    subprocess.run([sys.executable, "-c", FORKING, json.dumps(program().path)], check=True)
