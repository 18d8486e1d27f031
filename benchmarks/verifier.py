"""Verdicts per second: string rules here and through the pool, and math-verify against the library.

The ratio compares math-verify through the pool, with one process, with the library's own parse and
verify in a loop, both on the same core. No answer is written like its ground truth and none is an
integer, so no shortcut avoids the library.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable
from fractions import Fraction
from statistics import median

from common import Side, alternate, report, timed

from rllib_dapo.envs import ANSWER_RULES, PoolSettings, VerifierPool

ROUNDS, TARGET = 5, 0.8
STRICT_CALLS, POOLED_CALLS, SYMBOLIC_CALLS = 5_000, 5_000, 300
HERE_TARGET, POOLED_TARGET = 20_000, 2_000  # verdicts per second
THINKING = "Let us think step by step: 12 + 45 is 57, and half of that is not whole.\n" * 30

Pair = tuple[str, str]


def strict_here(number: int) -> float:
    """Verdicts per second of the rule itself, called directly."""
    responses = [
        f"{THINKING}Answer: $\\boxed{{\\frac{{{number}}}{{{i}}}\\text{{ dollars}}}}$"
        for i in range(100)
    ]
    rule = ANSWER_RULES["strict"]
    seconds, _ = timed(lambda: [rule(responses[i % 100], "57") for i in range(STRICT_CALLS)])
    return STRICT_CALLS / seconds


def strict_pooled(pool: VerifierPool, number: int) -> float:
    """Verdicts per second through processes, from the first call to the last verdict."""
    response = f"{THINKING}Answer: $\\boxed{{\\frac{{{number}}}{{2}}\\text{{ dollars}}}}$"
    seconds, _ = timed(
        lambda: pool.results([pool.submit("strict", response, "57") for _ in range(POOLED_CALLS)])
    )
    return POOLED_CALLS / seconds


def pairs(seed: int) -> list[Pair]:
    """Ground truths and answers as in competitions, half of them equal; each seed has its own."""
    draw = random.Random(seed)

    def fraction() -> Pair:
        value = Fraction(draw.randint(1, 999), draw.randint(2, 99))
        factor = draw.randint(2, 9)
        return f"\\frac{{{value.numerator}}}{{{value.denominator}}}", (
            f"\\dfrac{{{value.numerator * factor}}}{{{value.denominator * factor}}}"
        )

    def root() -> Pair:
        inside, outside = draw.choice((2, 3, 5, 7, 11, 13)), draw.randint(2, 40)
        return f"{outside}\\sqrt{{{inside}}}", f"\\sqrt{{{inside * outside**2}}}"

    def square() -> Pair:
        a, b = draw.randint(2, 99), draw.randint(2, 99)
        return f"(x+{a})(x-{b})", f"x^2+{a - b}x-{a * b}".replace("+-", "-")

    def pair_of_numbers() -> Pair:
        a, b = draw.randint(-99, 99), draw.randint(1, 99)
        return f"({a}, {b})", f"({a},{b})"

    def power() -> Pair:
        base, exponent = draw.randint(2, 9), draw.randint(10, 60)
        return f"{base}^{{{exponent}}}-1", f"{base**exponent - 1}"

    def decimal() -> Pair:
        value = Fraction(2 * draw.randint(0, 4999) + 1, 8)  # never a whole number
        return f"\\frac{{{value.numerator}}}{{{value.denominator}}}", f"{float(value):.4f}"

    kinds: tuple[Callable[[], Pair], ...] = (
        fraction,
        root,
        square,
        pair_of_numbers,
        power,
        decimal,
    )

    made = [kinds[i % len(kinds)]() for i in range(SYMBOLIC_CALLS)]
    # Every second answer belongs to another problem of the same kind.
    shifted = [
        made[(i + len(kinds)) % len(made)][1] if i % 2 else answer
        for i, (_, answer) in enumerate(made)
    ]
    return [(truth, answer) for (truth, _), answer in zip(made, shifted, strict=True)]


def symbolic_pooled(pool: VerifierPool, asked: list[Pair]) -> tuple[float, int]:
    """Verdicts per second of `math_verify` through the pool, and the number of correct ones."""
    seconds, verdicts = timed(
        lambda: pool.results(
            [pool.submit("math_verify", f"So \\boxed{{{a}}}.", truth) for truth, a in asked]
        )
    )
    return len(asked) / seconds, sum(verdict.is_correct is True for verdict in verdicts)


def symbolic_bare(asked: list[Pair]) -> tuple[float, int]:
    """The same for the library alone."""
    from math_verify import parse, verify

    def judge(truth: str, answer: str) -> bool:
        return verify(parse(f"\\boxed{{{truth}}}"), parse(f"\\boxed{{{answer}}}"))

    seconds, verdicts = timed(lambda: [judge(truth, answer) for truth, answer in asked])
    return len(asked) / seconds, sum(verdicts)


def main() -> None:
    """Measures the string rules, then both sides of math-verify in turn."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)

    here = [strict_here(number) for number in range(ROUNDS)]
    pool = VerifierPool(PoolSettings(processes=2))
    strict_pooled(pool, 0)
    pooled = [strict_pooled(pool, number) for number in range(ROUNDS)]
    pool.close()
    print(f"strict: {median(here):.0f} verdicts/s here, {median(pooled):.0f} through 2 processes")

    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # one core for this process and the pool's
    pool = VerifierPool(PoolSettings(processes=1))
    sides = {"ours": iter(range(1000)), "bare": iter(range(1000))}
    correct: dict[str, list[int]] = {"ours": [], "bare": []}

    def ours() -> float:
        rate, count = symbolic_pooled(pool, pairs(next(sides["ours"])))
        correct["ours"].append(count)
        return rate

    def bare() -> float:
        rate, count = symbolic_bare(pairs(next(sides["bare"])))
        correct["bare"].append(count)
        return rate

    figures, others = alternate(ours, bare, rounds=ROUNDS)
    pool.close()
    os.sched_setaffinity(0, cores)
    assert correct["ours"] == correct["bare"], f"the verdicts differ from the library's: {correct}"
    report(
        "verifier",
        ours=Side(
            label="math_verify through the pool, one core", unit="verdicts/s", values=figures
        ),
        other=Side(
            label="math-verify's parse and verify, one core", unit="verdicts/s", values=others
        ),
        target=TARGET,
        also={
            "microseconds for a strict verdict here": (1e6 / median(here), 1e6 / HERE_TARGET),
            "microseconds for a strict verdict through 2 processes": (
                1e6 / median(pooled),
                1e6 / POOLED_TARGET,
            ),
        },
        strict_per_second_here=round(median(here)),
        strict_per_second_pooled=round(median(pooled)),
        characters_of_a_response=len(THINKING),
        symbolic_pairs_per_round=SYMBOLIC_CALLS,
        correct_per_round=correct["ours"],
    )


if __name__ == "__main__":
    main()
