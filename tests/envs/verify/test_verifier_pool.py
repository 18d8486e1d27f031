"""Verdicts from processes: the same as here, and missing where a scorer fails."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rllib_dapo.envs.verify import ANSWER_RULES, Verdict
from rllib_dapo.envs.verify.sent_rule import prepare
from rllib_dapo.envs.verify.verifier_pool import PoolSettings, VerifierPool

Scorer = Callable[[str], Callable[[str, str], Any]]


DEADLINE = 5.0


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
        ("sleep", "timeout: no verdict within 5 s"),
        pytest.param("spin", "timeout: no verdict within 5 s", marks=pytest.mark.slow),
        pytest.param("stop", "timeout: no verdict within 5 s", marks=pytest.mark.slow),
        ("exit", "crash: the process ended with status 3"),
        ("abort", "crash: the process died of signal 6"),
        ("close", "crash: the process died of signal 9"),
        ("eat", "crash: out of memory"),
        ("raise", "crash: the scorer raised RuntimeError: what is this"),
        ("sys.exit", "crash: the scorer raised SystemExit: enough"),
        (
            "none",
            "crash: the scorer raised TypeError: a scorer must return a Verdict, a bool or a "
            "number, not NoneType",
        ),
    ],
)
def test_a_scorer_that_fails_loses_its_own_verdict_and_says_why(
    scorer: Scorer, action: str, reason: str
) -> None:
    # Where the deadline is to be missed it is short, else so long that nobody misses it.
    seconds = DEADLINE if reason.startswith("timeout") else 300.0
    pool = VerifierPool(PoolSettings(seconds=seconds, processes=2, memory_mib=256))
    rule = prepare(scorer(action))
    futures = [pool.submit(rule, "bad" if i == 3 else str(i % 2), "1") for i in range(20)]
    verdicts = pool.results(futures)
    pool.close()
    assert verdicts.pop(3) == Verdict(is_correct=None, reason=reason)
    assert [verdict.is_correct for verdict in verdicts] == [i % 2 == 1 for i in range(20) if i != 3]


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


def test_a_truth_of_millions_of_characters_is_too_long(pool: VerifierPool) -> None:
    verdict = pool.submit("strict", "1", "x" * 3_000_000).result()
    assert verdict == Verdict(is_correct=None, reason="too long: a text of 3000004 characters")
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
