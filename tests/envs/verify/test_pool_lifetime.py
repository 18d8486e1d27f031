"""Pools and their processes: shared, closed, forgotten, and gone with whoever asked."""

import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from rllib_dapo.envs.verify import Verdict
from rllib_dapo.envs.verify.verifier_pool import PoolLease, PoolSettings, VerifierPool

Scorer = Callable[[str], Callable[[str, str], Any]]


def test_a_closed_pool_leaves_no_process_and_no_question_open(scorer: Scorer) -> None:
    pool = VerifierPool(PoolSettings(seconds=300, processes=2))
    quick = [pool.submit(scorer("sleep"), str(i), "1") for i in range(4)]
    pool.results(quick)
    waiting = [pool.submit(scorer("sleep"), "bad", "1") for _ in range(5)]
    processes = [psutil.Process(pid) for pid in pool.pids if psutil.pid_exists(pid)]
    assert processes

    pool.close()
    _, alive = psutil.wait_procs(processes, timeout=120)
    assert not alive

    closed = Verdict(is_correct=None, reason="crash: the pool was closed")
    assert [future.result(timeout=120) for future in waiting] == [closed] * 5
    assert pool.submit("strict", "Answer: 1", "1").result() == closed
    pool.close()


def test_equal_settings_share_a_pool_until_the_last_lets_go(
    eventually: Callable[[Callable[[], object]], None],
) -> None:
    one, two = PoolLease(PoolSettings(seconds=7)), PoolLease(PoolSettings(seconds=7))
    other = PoolLease(PoolSettings(seconds=8))
    assert one.pool is two.pool is not other.pool
    one.release()
    one.release()
    assert two.pool.submit("strict", "Answer: 1", "1").result().is_correct
    (pid,) = two.pool.pids
    two.release()
    other.release()

    eventually(lambda: not psutil.pid_exists(pid))
    fresh = PoolLease(PoolSettings(seconds=7))
    assert fresh.pool is not one.pool
    fresh.release()


def test_a_lease_that_is_forgotten_closes_its_pool(
    eventually: Callable[[Callable[[], object]], None],
) -> None:
    lease = PoolLease(PoolSettings(seconds=9))
    pool = lease.pool
    assert pool.submit("strict", "Answer: 1", "1").result().is_correct
    (pid,) = pool.pids
    del lease
    eventually(lambda: not psutil.pid_exists(pid))


SCRIPT = """
import sys, time
from rllib_dapo.envs.verify.verifier_pool import PoolLease, PoolSettings

def hang(response, answer):
    while True:
        pass

def name(response, answer):
    from rllib_dapo.envs.verify import Verdict
    return Verdict(is_correct=True, prediction=__name__)

lease = PoolLease(PoolSettings(seconds=600, processes=2))
assert lease.pool.submit(name, "a", "b").result().prediction == "__main__"
assert lease.pool.submit("strict", "Answer: 1", "1").result().is_correct
lease.pool.submit(hang, "a", "b")
while len(lease.pool.pids) < 1:
    time.sleep(0.01)
time.sleep(0.5)
print(*lease.pool.pids, flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("end", ["exit", "killed"])
def test_no_process_outlives_the_one_that_asked(end: str) -> None:
    command = [sys.executable, "-c", SCRIPT]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as asker:
        assert asker.stdin is not None
        assert asker.stdout is not None
        processes = [psutil.Process(int(pid)) for pid in asker.stdout.readline().split()]
        assert processes

        if end == "exit":
            asker.stdin.write("\n")
            asker.stdin.flush()
        else:
            asker.kill()
        assert asker.wait(timeout=120) == (0 if end == "exit" else -signal.SIGKILL)

    gone, alive = psutil.wait_procs(processes, timeout=120)
    assert len(gone) == len(processes)
    assert not alive
