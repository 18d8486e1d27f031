"""Scorers that hang, exit, eat memory or lie: their own verdicts are missing, and nobody else's."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import psutil
import pytest

from rllib_dapo.envs.pool import PoolLease, PoolSettings, VerifierPool
from rllib_dapo.envs.verify import ANSWER_RULES, MissingReason, Verdict
from rllib_dapo.envs.verify.calls import prepare

SECONDS = 2.0  # the deadline in these tests
SLACK = 1.5  # for starting a process, on a machine that is busy with something else


# Local functions are sent whole: a process of the pool cannot import a test.
def scorer(action: str) -> Callable[[str, str], Any]:
    """Returns a scorer that compares, except where the response is "bad": then it does as told."""

    def score(response: str, answer: str) -> Any:
        import os
        import sys
        import time

        if response != "bad":
            return response == answer
        if action == "sleep":
            time.sleep(1000)
        elif action == "spin":
            while True:
                pass
        elif action == "exit":
            os._exit(3)
        elif action == "sys.exit":
            sys.exit("enough")
        elif action == "abort":
            os.abort()
        elif action == "raise":
            raise RuntimeError("what\nis this")
        elif action == "eat":
            eaten = []
            while True:
                eaten.append(bytearray(1 << 24))
        elif action == "close":
            os.closerange(0, 100)
            time.sleep(1000)
        elif action == "stop":
            os.kill(os.getpid(), 19)
        return None

    return score


@pytest.fixture
def pool() -> Iterator[VerifierPool]:
    pool = VerifierPool(PoolSettings(seconds=SECONDS, processes=2, memory_mib=256))
    yield pool
    pool.close()
    assert pool.pids == []


def timed(futures: list[Future[Verdict]]) -> list[tuple[Verdict, float]]:
    """Waits for all verdicts and says when each was there, in seconds from now."""
    began, times = time.monotonic(), [0.0] * len(futures)
    for i, future in enumerate(futures):
        future.add_done_callback(lambda _, i=i: times.__setitem__(i, time.monotonic() - began))
    return list(zip([future.result() for future in futures], times, strict=True))


@pytest.mark.parametrize("name", ANSWER_RULES)
def test_a_rule_says_in_a_process_what_it_says_here(pool: VerifierPool, name: str) -> None:
    responses = [
        "57",
        "Answer: 57",
        r"\boxed{57}",
        "Answer: 58",
        "57.0",
        "\ud800😀\x00",
        "Answer: $\\frac{114}{2}$",
    ]
    verdicts = pool.results([pool.submit(name, response, "57") for response in responses])
    assert verdicts == [ANSWER_RULES[name](response, "57") for response in responses]
    assert {verdict.is_correct for verdict in verdicts} == {True, False}


def test_a_rules_own_settings_go_along(pool: VerifierPool) -> None:
    near, exact = (
        pool.submit("numeric", "3.14", "3.1416", 0.01),
        pool.submit("numeric", "3.14", "3.1416", 0.0),
    )
    assert [verdict.is_correct for verdict in pool.results([near, exact])] == [True, False]


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("sleep", "timeout: no verdict within 2 s"),
        ("spin", "timeout: no verdict within 2 s"),
        ("stop", "timeout: no verdict within 2 s"),
        ("exit", "crash: the process ended with status 3"),
        ("abort", "crash: the process died of signal 6"),
        ("close", "crash: the process died of signal 9"),
        ("eat", "crash: out of memory"),
        ("raise", "crash: the scorer raised RuntimeError: what is this"),
        ("sys.exit", "crash: the scorer raised SystemExit: enough"),
        (
            "none",
            "crash: the scorer raised TypeError: a scorer must return a Verdict, a bool or a number, not NoneType",
        ),
    ],
)
def test_a_scorer_that_fails_loses_its_own_verdict_and_says_why(
    pool: VerifierPool, action: str, reason: str
) -> None:
    rule = prepare(scorer(action))
    futures = [pool.submit(rule, "bad" if i == 3 else str(i % 2), "1") for i in range(20)]
    verdicts = pool.results(futures)
    assert verdicts.pop(3) == Verdict(is_correct=None, reason=reason)
    assert [verdict.is_correct for verdict in verdicts] == [i % 2 == 1 for i in range(20) if i != 3]


def test_one_that_sleeps_one_that_exits_and_one_that_eats_delay_nobody(pool: VerifierPool) -> None:
    def ask(pool: VerifierPool) -> list[Future[Verdict]]:
        good = [pool.submit("strict", f"Answer: {i}", "7") for i in range(50)]
        return good + [
            pool.submit("math_verify", rf"\boxed{{\frac{{14}}{{{i + 1}}}}}", "7") for i in range(10)
        ]

    undisturbed = VerifierPool(pool.settings)
    usual = max(at for _, at in timed(ask(undisturbed)))
    undisturbed.close()
    bad = [pool.submit(scorer(action), "bad", "") for action in ("sleep", "exit", "eat")]
    judged = timed(ask(pool))
    assert [i for i, (verdict, _) in enumerate(judged) if verdict.is_correct] == [7, 51]
    assert all(verdict.is_correct is not None for verdict, _ in judged)
    assert max(at for _, at in judged) < usual + SECONDS
    kinds = [verdict.reason.partition(":")[0] for verdict in pool.results(bad)]
    assert kinds == [MissingReason.TIMEOUT, MissingReason.CRASH, MissingReason.CRASH]


def test_more_sleepers_than_processes_do_not_hold_the_others_up(pool: VerifierPool) -> None:
    rule = prepare(scorer("sleep"))
    sleepers = [pool.submit(rule, "bad", "1") for _ in range(6)]
    judged = timed([pool.submit(rule, "1", "1") for _ in range(40)])
    assert all(verdict.is_correct for verdict, _ in judged)
    assert max(at for _, at in judged) < SECONDS + SLACK
    assert all(verdict.reason.startswith("timeout") for verdict in pool.results(sleepers))
    assert pool.submit(rule, "1", "1").result().is_correct
    assert len(pool.pids) <= 2  # those that stood in have gone again


def test_among_hundreds_of_calls_bad_ones_of_every_kind_cost_the_others_at_most_a_deadline(
    pool: VerifierPool,
) -> None:
    rules = {action: prepare(scorer(action)) for action in ("sleep", "exit", "eat")}
    actions = list(rules)
    bad = {7 * i: actions[i % 3] for i in range(12)}  # interleaved from the first on
    futures = [
        pool.submit(rules[bad.get(i, actions[i % 3])], "bad" if i in bad else str(i % 2), "1")
        for i in range(300)
    ]
    judged = timed(futures)
    for i, (verdict, at) in enumerate(judged):
        if i in bad:
            cause = MissingReason.TIMEOUT if bad[i] == "sleep" else MissingReason.CRASH
            assert verdict.reason.startswith(f"{cause}: ")
        else:
            assert verdict.is_correct is (i % 2 == 1)
            assert at < SECONDS + SLACK


def test_a_killed_process_is_replaced_and_takes_at_most_one_verdict_along(
    pool: VerifierPool,
) -> None:
    assert pool.submit("strict", "Answer: 1", "1").result().is_correct
    asked = [pool.submit("strict", "x" * 10_000 + f"\nAnswer: {i % 2}", "1") for i in range(2000)]
    (pid, *_) = pool.pids
    os.kill(pid, signal.SIGKILL)
    verdicts = pool.results(asked)
    lost = [i for i, verdict in enumerate(verdicts) if verdict.is_correct is None]
    assert len(lost) <= 1
    assert all(verdicts[i].reason == "crash: the process died of signal 9" for i in lost)
    assert all(
        verdict.is_correct is (i % 2 == 1) for i, verdict in enumerate(verdicts) if i not in lost
    )
    assert pid not in pool.pids
    assert pool.pids


def test_what_a_scorer_has_started_ends_with_it(pool: VerifierPool) -> None:
    def start_and_hang(response: str, answer: str) -> None:
        import subprocess
        import time

        subprocess.Popen(["sleep", response])
        time.sleep(1000)

    seconds = "4321.5"
    assert pool.submit(start_and_hang, seconds, "").result().reason.startswith("timeout")
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", seconds]
    ]


def test_a_process_that_keeps_what_it_took_is_replaced_before_others_suffer(
    pool: VerifierPool,
) -> None:
    def hoard(response: str, answer: str) -> int:
        import os
        import sys

        sys.__dict__.setdefault("hoard", []).append(bytearray(int(response) << 20))
        return os.getpid()

    first = [
        pool.submit(hoard, "100", "").result().reward for _ in range(6)
    ]  # 256 MiB each may take
    assert None not in first
    assert len(set(first)) > 2
    assert pool.submit(hoard, "1000", "").result().reason == "crash: out of memory"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, Verdict(is_correct=True)),
        (0.25, Verdict(is_correct=None, reward=0.25)),
        (3, Verdict(is_correct=None, reward=3.0)),
        (np.float32(0.5), Verdict(is_correct=None, reward=0.5)),
        (np.bool_(False), Verdict(is_correct=False)),
        (Verdict(is_correct=True, reward=2.0, prediction="p", components={"a": 1.0}),) * 2,
    ],
    ids=str,
)
def test_a_function_may_return_a_bool_a_number_or_a_verdict(
    pool: VerifierPool, value: Any, expected: Verdict
) -> None:
    assert pool.submit(lambda response, answer: value, "a", "b").result() == expected


def test_what_a_scorer_prints_or_reads_does_not_reach_the_pool(pool: VerifierPool) -> None:
    def chatty(response: str, answer: str) -> bool:
        import os
        import sys

        sys.stdout.write('{"verdict": {"is_correct": true}}\n')
        sys.stdout.flush()
        os.write(1, b"\n\n")
        return sys.stdin.read() == ""

    verdicts = pool.results([pool.submit(chatty, "a", "b") for _ in range(5)])
    assert all(verdict.is_correct for verdict in verdicts)


def test_a_process_loads_the_rules_and_nothing_heavy(pool: VerifierPool) -> None:
    heavy = {
        "ray",
        "torch",
        "vllm",
        "transformers",
        "gymnasium",
        "numpy",
        "pandas",
        "sympy",
        "math_verify",
    }

    def loaded(*names: str) -> Verdict:
        import sys

        return Verdict(
            is_correct=True, prediction=" ".join(sorted(sys.modules.keys() & set(names)))
        )

    assert pool.submit(loaded, *heavy).result().prediction == ""


def test_a_scorer_may_use_the_whole_package(pool: VerifierPool) -> None:
    def use(response: str, answer: str) -> bool:
        from rllib_dapo.envs import ANSWER_RULES as rules
        from rllib_dapo.envs import SingleStepTextEnv, Verdict

        return (
            isinstance(rules["strict"](response, answer), Verdict)
            and SingleStepTextEnv.metadata != {}
        )

    assert pool.submit(use, "Answer: 5", "5").result() == Verdict(is_correct=True)


def test_a_scorer_that_cannot_be_loaded_says_why(pool: VerifierPool) -> None:
    class Fussy:
        def __call__(self, response: str, answer: str) -> bool:
            return True

        def __setstate__(self, state: dict[str, Any]) -> None:
            raise ImportError("no module named fuss")

    fussy = Fussy()
    fussy.state = 1  # type: ignore[attr-defined]
    verdicts = pool.results([pool.submit(fussy, "a", "b") for _ in range(3)])
    reason = "crash: the scorer cannot be loaded: ImportError: no module named fuss"
    assert verdicts == [Verdict(is_correct=None, reason=reason)] * 3
    assert pool.submit("strict", "Answer: 1", "1").result().is_correct


def test_a_text_of_millions_of_characters_is_too_long(pool: VerifierPool) -> None:
    verdict = pool.submit("strict", "x" * 3_000_000, "1").result()
    assert verdict == Verdict(is_correct=None, reason="too long: a text of 3000001 characters")
    assert pool.submit("strict", "x" * 1_900_000 + "Answer: 1", "1").result().is_correct


def test_an_unknown_rule_and_a_function_that_cannot_be_sent_are_refused_at_once(
    pool: VerifierPool,
) -> None:
    with pytest.raises(
        ValueError, match=r"^rule='strikt': must be one of strict, boxed, .*, or a function"
    ):
        pool.submit("strikt", "a", "b")
    lock = threading.Lock()
    with pytest.raises(
        ValueError,
        match=r"cannot be sent to another process: TypeError: cannot pickle '_thread.lock'",
    ):
        pool.submit(lambda response, answer: lock.locked(), "a", "b")


def test_any_number_of_threads_may_ask(pool: VerifierPool) -> None:
    answers: dict[int, list[bool | None]] = {}

    def ask(number: int) -> None:
        asked = [pool.submit("last_number", str(i), str(number)) for i in range(100)]
        answers[number] = [verdict.is_correct for verdict in pool.results(asked)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: [i == number for i in range(100)] for number in range(8)}


def test_a_closed_pool_leaves_no_process_and_no_question_open() -> None:
    pool = VerifierPool(PoolSettings(seconds=60, processes=2))
    quick = [pool.submit(scorer("sleep"), str(i), "1") for i in range(4)]
    pool.results(quick)
    waiting = [pool.submit(scorer("sleep"), "bad", "1") for _ in range(5)]
    processes = [psutil.Process(pid) for pid in pool.pids]
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 5
    assert processes
    assert not any(process.is_running() for process in processes)
    closed = Verdict(is_correct=None, reason="crash: the pool was closed")
    assert [future.result(timeout=0) for future in waiting] == [closed] * 5
    assert pool.submit("strict", "Answer: 1", "1").result() == closed
    pool.close()


def test_equal_settings_share_a_pool_until_the_last_lets_go() -> None:
    one, two = PoolLease(PoolSettings(seconds=7)), PoolLease(PoolSettings(seconds=7))
    other = PoolLease(PoolSettings(seconds=8))
    assert one.pool is two.pool is not other.pool
    one.release()
    one.release()
    assert two.pool.submit("strict", "Answer: 1", "1").result().is_correct
    (pid,) = two.pool.pids
    two.release()
    other.release()
    assert not psutil.pid_exists(pid)
    fresh = PoolLease(PoolSettings(seconds=7))
    assert fresh.pool is not one.pool
    fresh.release()


def test_a_lease_that_is_forgotten_closes_its_pool() -> None:
    lease = PoolLease(PoolSettings(seconds=9))
    pool = lease.pool
    assert pool.submit("strict", "Answer: 1", "1").result().is_correct
    (pid,) = pool.pids
    del lease
    assert not psutil.pid_exists(pid)


SCRIPT = """
import sys, time
from rllib_dapo.envs.pool import PoolLease, PoolSettings

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
if sys.argv[1] == "wait":
    time.sleep(600)
"""


@pytest.mark.parametrize("end", ["exit", "wait"])
def test_no_process_outlives_the_one_that_asked(end: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), end]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as asker:
        assert asker.stdout is not None
        processes = [psutil.Process(int(pid)) for pid in asker.stdout.readline().split()]
        assert processes
        if end == "wait":
            asker.kill()
        assert asker.wait(timeout=60) == (0 if end == "exit" else -signal.SIGKILL)
    gone, alive = psutil.wait_procs(processes, timeout=10)
    assert len(gone) == len(processes)
    assert not alive
