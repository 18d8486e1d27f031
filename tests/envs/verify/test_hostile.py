"""Whatever a model writes: a verdict, in time, and nothing else."""

import runpy
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rllib_dapo.envs.math import MathEnv
from rllib_dapo.envs.verify import ANSWER_RULES, SLOW_RULES, Verdict, VerdictKind
from rllib_dapo.envs.verify.verifier_pool import PoolSettings, VerifierPool

HOSTILE = runpy.run_path(str(Path(__file__).with_name("hostile.py")))["HOSTILE"]
QUICK_RULES = sorted(ANSWER_RULES.keys() - SLOW_RULES)
SECONDS = 2.0  # of CPU time, so it does not matter how busy the machine is


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[[Callable[[], object]], None],
) -> Iterator[None]:
    """Empty folders wherever a text could write, which stay empty, and no new process."""
    folders = {name: tmp_path / name for name in ("HOME", "TMPDIR", "here")}
    for name, folder in folders.items():
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    monkeypatch.chdir(folders["here"])
    before = set(psutil.Process().children(recursive=True))
    yield
    assert not [file for folder in folders.values() for file in folder.rglob("*")]
    eventually(lambda: set(psutil.Process().children(recursive=True)) <= before)


def kinds(verdicts: list[Verdict]) -> Counter[VerdictKind]:
    """Counts verdicts, each of which must be one of the three kinds that rules give."""
    counted = Counter(verdict.kind for verdict in verdicts)
    assert counted.keys() <= {VerdictKind.CORRECT, VerdictKind.WRONG, VerdictKind.MISSING}
    assert all("\n" not in verdict.reason and len(verdict.reason) <= 300 for verdict in verdicts)
    assert all(verdict.reason for verdict in verdicts if verdict.kind is VerdictKind.MISSING)
    assert all(len(verdict.prediction) <= 400 for verdict in verdicts)
    return counted


def test_there_are_more_than_300_hostile_answers() -> None:
    assert len(set(HOSTILE)) > 300
    assert max(map(len, HOSTILE)) > 100_000


@pytest.mark.parametrize("rule", QUICK_RULES)
def test_a_rule_of_texts_finds_every_hostile_answer_wrong_within_milliseconds(rule: str) -> None:
    slowest, verdicts = 0.0, []
    for response in HOSTILE:
        began = time.thread_time()
        verdicts.append(ANSWER_RULES[rule](response, "58"))
        slowest = max(slowest, time.thread_time() - began)
    assert kinds(verdicts) == {VerdictKind.WRONG: len(HOSTILE)}
    # Milliseconds; the bound is for a machine that is busy with something else.
    assert slowest < 0.1


@pytest.mark.parametrize("rule", ["strict", pytest.param("math_verify", marks=pytest.mark.slow)])
def test_through_the_pool_every_hostile_answer_is_wrong(
    rule: str, eventually: Callable[[Callable[[], object]], None]
) -> None:
    before = set(psutil.Process().children(recursive=True))
    pool = VerifierPool(PoolSettings(seconds=SECONDS, processes=2))
    verdicts = pool.results([pool.submit(rule, response, "58") for response in HOSTILE])

    def pids_made() -> set[int]:
        made = set(psutil.Process().children(recursive=True)) - before
        return {process.pid for process in made}

    eventually(lambda: pids_made() == set(pool.pids))
    pool.close()

    # Nothing that can be written here saves a response from being wrong.
    assert kinds(verdicts) == {VerdictKind.WRONG: len(HOSTILE)}


@pytest.mark.parametrize("rule", QUICK_RULES)
def test_through_the_pool_a_rule_of_texts_says_what_it_says_here(rule: str) -> None:
    pool = VerifierPool(PoolSettings(processes=2))
    verdicts = pool.results([pool.submit(rule, response, "58") for response in HOSTILE])
    pool.close()
    assert verdicts == [ANSWER_RULES[rule](response, "58") for response in HOSTILE]


@pytest.mark.parametrize("rule", QUICK_RULES)
def test_an_environment_rewards_every_hostile_answer_or_says_why_not(
    rule: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    problem = tmp_path_factory.mktemp("problem") / "one.jsonl"
    problem.write_text('{"question": "What is 29 + 29?", "answer": "58"}\n')
    env = MathEnv(path=problem, answer_rule=rule)

    # As a runner does it, and as Gymnasium does.
    outcomes = [env.collect(ticket) for ticket in [env.submit(0, response) for response in HOSTILE]]
    for response in HOSTILE:
        env.reset(seed=0)
        _, reward, terminated, _, info = env.step(response)
        assert terminated
        outcomes.append((reward, info))
    env.close()

    assert len(outcomes) == 2 * len(HOSTILE)
    assert all((reward, info["is_correct"]) == (-1.0, False) for reward, info in outcomes)


@pytest.mark.slow
def test_an_environment_that_knows_mathematics_rewards_them_too(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    problem = tmp_path_factory.mktemp("problem") / "one.jsonl"
    problem.write_text('{"question": "What is 29 + 29?", "answer": "58"}\n')
    env = MathEnv(
        path=problem, answer_rule="math_verify", verify_processes=2, verify_seconds=SECONDS
    )
    some = HOSTILE[::3]  # of every idea: the pool's own test above takes all
    outcomes = [env.collect(ticket) for ticket in [env.submit(0, response) for response in some]]
    env.close()

    assert all((reward, info["is_correct"]) == (-1.0, False) for reward, info in outcomes)


def test_the_truth_is_found_between_hostile_answers() -> None:
    with_truth = [rf"{response}{chr(10)}Answer: $\boxed{{58}}$" for response in HOSTILE]
    for rule in ("strict", "boxed", "numeric", "last_number", "math_verify"):
        assert {ANSWER_RULES[rule](response, "58").is_correct for response in with_truth} == {
            True
        }, rule
