"""Scorers that hang, exit, eat memory or lie: their own verdicts are missing, and nobody else's."""

import os
import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from rllib_dapo.envs.processes.process_pool import SPARE_PROCESSES
from rllib_dapo.envs.verify import MissingReason
from rllib_dapo.envs.verify.sent_rule import prepare
from rllib_dapo.envs.verify.verifier_pool import PoolSettings, VerifierPool

Scorer = Callable[[str], Callable[[str, str], Any]]


def test_one_that_sleeps_one_that_exits_and_one_that_eats_delay_nobody(
    pool: VerifierPool, scorer: Scorer
) -> None:
    sleeper, *others = [
        pool.submit(scorer(action), "bad", "") for action in ("sleep", "exit", "eat")
    ]
    good = [pool.submit("strict", f"Answer: {i}", "7") for i in range(50)]
    good += [
        pool.submit("math_verify", rf"\boxed{{\frac{{14}}{{{i + 1}}}}}", "7") for i in range(10)
    ]

    verdicts = pool.results(good)
    assert [i for i, verdict in enumerate(verdicts) if verdict.is_correct] == [7, 51]
    assert all(verdict.is_correct is not None for verdict in verdicts)
    kinds = [verdict.reason.partition(":")[0] for verdict in pool.results(others)]
    assert kinds == [MissingReason.CRASH, MissingReason.CRASH]
    assert not sleeper.done()  # all the others were judged while it was waited for


def test_more_sleepers_than_processes_do_not_hold_the_others_up(
    pool: VerifierPool, scorer: Scorer
) -> None:
    rule = prepare(scorer("sleep"))
    sleepers = [pool.submit(rule, "bad", "1") for _ in range(6)]
    verdicts = pool.results([pool.submit(rule, "1", "1") for _ in range(40)])
    assert all(verdict.is_correct for verdict in verdicts)
    assert not any(sleeper.done() for sleeper in sleepers)


@pytest.mark.slow
def test_as_many_sleepers_as_the_pool_promises_hold_nobody_up(
    pool: VerifierPool, scorer: Scorer
) -> None:
    rule = prepare(scorer("sleep"))
    processes = 2
    sleepers = [pool.submit(rule, "bad", "1") for _ in range(processes + SPARE_PROCESSES - 1)]
    assert pool.submit(rule, "1", "1").result().is_correct
    assert not any(sleeper.done() for sleeper in sleepers)


@pytest.mark.slow
def test_where_more_sleep_at_once_others_wait_until_one_meets_its_deadline(scorer: Scorer) -> None:
    pool = VerifierPool(PoolSettings(seconds=3.0, processes=1))
    rule = prepare(scorer("sleep"))
    sleepers = [pool.submit(rule, "bad", "1") for _ in range(1 + SPARE_PROCESSES)]
    assert pool.submit(rule, "1", "1").result().is_correct
    assert any(sleeper.done() for sleeper in sleepers)
    assert all(v.reason.startswith("timeout") for v in pool.results(sleepers))
    pool.close()


@pytest.mark.slow
def test_those_that_stood_in_for_sleepers_go_again(
    scorer: Scorer, eventually: Callable[[Callable[[], object]], None]
) -> None:
    pool = VerifierPool(PoolSettings(seconds=2.0, processes=2))
    rule = prepare(scorer("sleep"))
    sleepers = [pool.submit(rule, "bad", "1") for _ in range(6)]
    assert all(verdict.reason.startswith("timeout") for verdict in pool.results(sleepers))
    assert pool.submit(rule, "1", "1").result().is_correct
    eventually(lambda: len(pool.pids) <= 2)
    pool.close()


def test_among_hundreds_of_calls_bad_ones_of_every_kind_cost_the_others_nothing(
    pool: VerifierPool, scorer: Scorer
) -> None:
    rules = {action: prepare(scorer(action)) for action in ("sleep", "exit", "eat")}
    actions = list(rules)
    bad = {7 * i: actions[i % 3] for i in range(12)}  # interleaved from the first on
    futures = [
        pool.submit(rules[bad.get(i, actions[i % 3])], "bad" if i in bad else str(i % 2), "1")
        for i in range(300)
    ]

    for i, future in enumerate(futures):
        if i not in bad:
            assert future.result().is_correct is (i % 2 == 1)
        elif bad[i] != "sleep":
            assert future.result().reason.startswith(f"{MissingReason.CRASH}: ")
    assert not any(futures[i].done() for i, action in bad.items() if action == "sleep")


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


def test_what_a_scorer_has_started_ends_with_it(
    eventually: Callable[[Callable[[], object]], None],
) -> None:
    def start_and_hang(response: str, answer: str) -> None:
        import subprocess
        import time

        subprocess.Popen(["sleep", response])
        time.sleep(1000)

    seconds = "4321.5"

    def sleeping() -> list[psutil.Process]:
        processes = psutil.process_iter(["cmdline"])
        return [p for p in processes if p.info["cmdline"] == ["sleep", seconds]]

    pool = VerifierPool(PoolSettings(seconds=3.0, processes=1))
    verdict = pool.submit(start_and_hang, seconds, "")
    eventually(sleeping)
    assert verdict.result().reason.startswith("timeout")
    eventually(lambda: not sleeping())
    pool.close()


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
