r"""The DAPO paper's preparation of its data (section 3.5): all answers become integers.

Then no rule errs over them. An answer that is an integer stays. One that is a fraction or holds a
square root is asked for by its parts: the answer `\frac{11}{2}` becomes 13, and the problem gets a
sentence that asks for `m + n`. Other problems are left out. The paper had a language model do this;
here it is arithmetic, for the forms `k`, `m\sqrt{n}`, `k \pm m\sqrt{n}` and any of these over `d`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.datasets import load_dataset
from rllib_dapo.envs.math import unwrap
from rllib_dapo.envs.messages import Conversation
from rllib_dapo.envs.normalize import normalize_answer
from rllib_dapo.envs.problem_file import check_target, write_problems
from rllib_dapo.envs.prompt_cells import with_last_text

_LONGEST = 200  # characters of an answer that may be turned into an integer
_INTEGER = re.compile(r"-?[0-9]{1,100}")
_NUMBER = r"[0-9]{1,9}"
_SURD = rf"(?P<sign>[-+])?(?P<m>{_NUMBER})?\\sqrt\{{(?P<n>{_NUMBER})\}}"
_TOP = rf"(?:(?P<k>-?{_NUMBER})(?![0-9\\]))?(?:{_SURD})?"
_FORMS = tuple(
    re.compile(form)
    for form in (
        _TOP,
        rf"(?P<minus>-)?\\frac\{{{_TOP}\}}\{{(?P<d>{_NUMBER})\}}",
        rf"{_TOP}/(?P<d>{_NUMBER})",
    )
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What became of a file's problems.

    Attributes:
        kept: Number of problems whose answer was an integer already.
        transformed: Number of problems that now ask for an integer.
        dropped: Number of problems left out.
    """

    kept: int
    transformed: int
    dropped: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Value:
    r"""The number `(k + m \sqrt{n}) / d` in lowest terms.

    `n` has no square factor, and `d` is positive.
    """

    k: int
    m: int
    n: int
    d: int

    def form(self) -> str:
        """Returns the number written with letters; `m` stands for its absolute value."""
        top = "k" if self.k else ""
        if self.m:
            sign = "-" if self.m < 0 else "+" if top else ""
            top += rf"{sign}m\sqrt{{n}}"
        return top if self.d == 1 else rf"\frac{{{top}}}{{d}}"

    def parts(self) -> dict[str, int]:
        """Returns the value of each letter of the form."""
        letters = {"k": self.k} if self.k else {}
        letters |= {"m": abs(self.m), "n": self.n} if self.m else {}
        return letters | ({"d": self.d} if self.d > 1 else {})


def integer_problem(
    prompt: str | Conversation, answer: str
) -> tuple[str | Conversation, str] | None:
    """Returns a problem that asks for an integer, and its answer.

    Args:
        prompt: The problem, with or without the recipe's wording. Of a conversation, the user's
            last message is extended.
        answer: Its ground truth.

    Returns:
        None if the answer cannot be made into an integer.
    """
    if len(answer) > _LONGEST:
        return None
    value = _read(normalize_answer(answer))
    if value is None:
        return None

    parts = value.parts()
    if value.d == 1 and not value.m:
        return prompt, str(value.k)

    # What makes the letters' values unique.
    conditions = ["$m$ is positive and $n$ has no square factor"] if value.m else []
    if value.d > 1:
        conditions.append("the fraction is in lowest terms with a positive denominator")

    letters = [f"${letter}$" for letter in parts]
    listed = f"{', '.join(letters[:-1])} and {letters[-1]}"
    asked_for = (
        f" The answer can be written as ${value.form()}$ with integers {listed}, "
        f"where {' and '.join(conditions)}. Give ${' + '.join(parts)}$ as the final answer."
    )
    question = with_last_text(unwrap(prompt), lambda text: text + asked_for)
    return question, str(sum(parts.values()))


def prepare(
    source: Path, target: Path, *, columns: Mapping[str, str | Sequence[str]] | None = None
) -> Prepared:
    """Writes the problems of a file that ask for an integer, or can be made to.

    Args:
        source: A file as the setting `path` takes it; repeated problems are written once.
        target: Path of the `.jsonl` or `.parquet` file to write, with the columns problem_id,
            question and answer.
        columns: The setting `columns`.

    Raises:
        FileNotFoundError: If the source is not there.
        ValueError: If the source cannot be read, the target's ending is unknown, or no problem is
            left.
    """
    check_target(target)
    problems = load_dataset(source, columns=columns).problems
    made = [(problem, integer_problem(problem.prompt, problem.answer)) for problem in problems]
    rows = [_row(problem, *new) for problem, new in made if new is not None]
    if not rows:
        raise ValueError(
            f"{source}: none of its {len(problems)} answers is an integer or can be made into one"
        )

    write_problems(rows, target)
    kept = sum(new is not None and new[0] == problem.prompt for problem, new in made)
    return Prepared(kept=kept, transformed=len(rows) - kept, dropped=len(problems) - len(rows))


def _read(text: str) -> _Value | None:
    if _INTEGER.fullmatch(text):
        return _Value(k=int(text), m=0, n=1, d=1)
    for form in _FORMS:
        match = form.fullmatch(text)
        if match:
            return _value_of(match.groupdict())
    return None


def _value_of(found: Mapping[str, str | None]) -> _Value | None:
    """Returns the number in a match of one of the forms; None if there is none."""
    if found["k"] is None and found["n"] is None:
        return None
    d = int(found.get("d") or 1)
    if d == 0:
        return None

    sign = -1 if found.get("minus") else 1
    k, m = int(found["k"] or 0), 0
    if found["n"] is not None:
        m = int(found["m"] or 1) * (-1 if found["sign"] == "-" else 1)
    return _lowest_terms(sign * k, sign * m, int(found["n"] or 1), d)


def _lowest_terms(k: int, m: int, n: int, d: int) -> _Value | None:
    if n == 0:
        m, n = 0, 1

    # Square factors leave the root.
    for factor in range(2, math.isqrt(n) + 1):
        while n % factor**2 == 0:
            m, n = m * factor, n // factor**2
    if n == 1:
        k, m = k + m, 0

    common = math.gcd(k, m, d)
    return _Value(k=k // common, m=m // common, n=n if m else 1, d=d // common)


def _row(problem: Problem, question: str | Conversation, answer: str) -> dict[str, Any]:
    return {"problem_id": problem.problem_id, "question": question, "answer": answer}
