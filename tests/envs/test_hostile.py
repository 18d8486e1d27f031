"""Whatever a model writes: a verdict, in time, and nothing else."""

import os
import runpy
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from rllib_dapo.envs.pool import PoolSettings, VerifierPool
from rllib_dapo.envs.verify import ANSWER_RULES, SLOW_RULES, Verdict, VerdictKind

HOSTILE = runpy.run_path(str(Path(__file__).with_name("hostile.py")))["HOSTILE"]
QUICK_RULES = sorted(ANSWER_RULES.keys() - SLOW_RULES)
DEADLINE = 5.0


@pytest.fixture(autouse=True)
def _an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def kinds(verdicts: list[Verdict]) -> Counter[VerdictKind]:
    """Counts verdicts, each of which must be one of the three kinds that rules give."""
    counted = Counter(verdict.kind for verdict in verdicts)
    assert counted.keys() <= {VerdictKind.CORRECT, VerdictKind.WRONG, VerdictKind.MISSING}
    assert all("\n" not in verdict.reason and len(verdict.reason) <= 300 for verdict in verdicts)
    assert all(len(verdict.prediction) <= 400 for verdict in verdicts)
    return counted


def test_there_are_more_than_300_hostile_answers() -> None:
    assert len(set(HOSTILE)) > 300
    assert max(map(len, HOSTILE)) > 100_000


@pytest.mark.parametrize("rule", QUICK_RULES)
def test_a_rule_of_texts_finds_every_hostile_answer_wrong_within_milliseconds(rule: str) -> None:
    before, slowest, verdicts = psutil.Process().children(), 0.0, []
    for response in HOSTILE:
        began = time.thread_time()
        verdicts.append(ANSWER_RULES[rule](response, "58"))
        slowest = max(slowest, time.thread_time() - began)
    assert kinds(verdicts) == {VerdictKind.WRONG: len(HOSTILE)}
    assert slowest < 0.1  # milliseconds; the bound is for a machine that is busy with something else
    assert psutil.Process().children() == before
    assert os.listdir() == []


@pytest.mark.parametrize("rule", ["strict", "math_verify"])
def test_through_the_pool_every_hostile_answer_gets_its_verdict_in_time(rule: str, tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    pool = VerifierPool(PoolSettings(seconds=DEADLINE, processes=2))
    began = time.monotonic()
    asked = [pool.submit(rule, response, "58") for response in HOSTILE]
    verdicts = pool.results(asked)
    seconds = time.monotonic() - began
    made = set(psutil.Process().children(recursive=True)) - before
    assert {process.pid for process in made} == set(pool.pids)
    pool.close()
    counted = kinds(verdicts)
    late = counted[VerdictKind.MISSING]
    assert counted[VerdictKind.CORRECT] == 0
    assert late <= len(HOSTILE) // 100  # nearly all are stopped by bounds, not by the deadline
    assert all(v.reason.startswith("timeout: ") for v in verdicts if v.kind is VerdictKind.MISSING)
    assert seconds < 60 + late * DEADLINE
    assert os.listdir() == []


def test_the_truth_is_found_between_hostile_answers() -> None:
    with_truth = [rf"{response}{chr(10)}Answer: $\boxed{{58}}$" for response in HOSTILE]
    for rule in ("strict", "boxed", "numeric", "last_number", "math_verify"):
        assert {ANSWER_RULES[rule](response, "58").is_correct for response in with_truth} == {True}, rule
