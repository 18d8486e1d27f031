"""What a response costs a rule beyond CPU time is wrong, and what the truth costs is missing."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rllib_dapo.envs.adapters.reward_function import RewardFunctionEnv
from rllib_dapo.envs.verify import Verdict
from rllib_dapo.envs.verify.verifier_pool import PoolSettings, VerifierPool

# Half a minute or more for sympy, and within all bounds of size.
COSTLY = r"\cos(\cos(\cos(\cos(\cos(\cos 1)))))"
QUICK = r"\frac{6}{4}"


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    pool = VerifierPool(PoolSettings(seconds=0.5, processes=1))
    yield pool
    pool.close()


def test_a_response_that_costs_too_much_is_wrong(pool: VerifierPool) -> None:
    for truth in ("57", r"\sqrt{3}"):
        verdict = pool.submit("math_verify", f"Answer: {COSTLY}", truth).result()
        assert verdict.is_correct is False
        assert verdict.reason == "the answer takes more than 0.5 s of CPU time"


def test_a_ground_truth_that_costs_too_much_is_nobodys_fault(pool: VerifierPool) -> None:
    assert pool.submit("math_verify", f"Answer: {QUICK}", COSTLY).result() == Verdict(
        is_correct=None,
        reason="timeout: the ground truth alone takes more than 0.5 s of CPU time",
    )


def test_what_is_asked_after_an_interruption_gets_its_verdict(pool: VerifierPool) -> None:
    costly = pool.submit("math_verify", f"Answer: {COSTLY}", "57")
    quick = [pool.submit("math_verify", rf"\boxed{{{QUICK}}}", "1.5") for _ in range(3)]
    verdicts = pool.results([costly, *quick, pool.submit("math_verify", "Answer: 1/7", "1.5")])
    assert [verdict.is_correct for verdict in verdicts] == [False, True, True, True, False]


def test_time_that_is_spent_waiting_does_not_count() -> None:
    def wait(response: str, answer: str) -> Verdict:
        import time

        from rllib_dapo.envs.verify.cpu_limit import cpu_limit, limit_cpu_time

        limit_cpu_time(0.5)
        with cpu_limit():
            time.sleep(1.5)
        return Verdict(is_correct=True)

    pool = VerifierPool(PoolSettings(seconds=300.0, processes=1))
    assert pool.submit(wait, "", "").result() == Verdict(is_correct=True)
    pool.close()


def test_a_rule_that_is_part_of_a_reward_is_held_to_the_same(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"prompt": "29 + 28?", "answer": "57"}) + "\n")
    env = RewardFunctionEnv(
        path=str(path),
        reward={"right": {"rule": "math-verify"}, "polite": {"keywords": ["please"]}},
        verify_seconds=0.5,
        verify_processes=1,
    )
    env.reset(seed=0)
    # The first verdict of a process: what loading the library takes does not count.
    assert env.step(r"Answer: \frac{114}{2}")[1] == 1.0
    env.reset(seed=0)
    _, reward, _, _, info = env.step(f"please, Answer: {COSTLY}")
    env.close()
    assert (reward, info["is_correct"]) == (0.0, False)
    assert info["reward_components"] == {"right": -1.0, "polite": 1.0}


def test_of_a_response_that_is_too_long_to_be_sent_a_rule_reads_the_end(pool: VerifierPool) -> None:
    long = "57" * 1_500_000
    right, wrong, whole = (
        pool.submit("strict", f"{long}\nAnswer: 57", "57"),
        pool.submit("math_verify", f"{long}\nAnswer: 58", "57"),
        pool.submit("exact_integer", f"{long}" + " " * 200_000 + "57", "57"),
    )
    verdicts = pool.results([right, wrong, whole])
    assert [verdict.is_correct for verdict in verdicts] == [True, False, False]
    verdict = pool.submit(lambda response, answer: True, long, "57").result()
    assert verdict.reason == "too long: a text of 3000002 characters"
