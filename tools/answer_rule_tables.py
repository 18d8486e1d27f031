r"""Writes the tables of docs/answer_rules.md: which rule takes which form of a right answer.

`make docs` runs this. The rules themselves are asked, nothing else knows the outcome. A table
stands between the lines `<!-- table: NAME -->` and `<!-- end -->`; what stands elsewhere on the
page is written by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from rllib_dapo.envs.verify import ANSWER_RULES, rules_that_read

PAGE = Path(__file__).parents[1] / "docs" / "answer_rules.md"
_TABLE = re.compile(r"<!-- table: (\w+) -->\n.*?<!-- end -->", re.DOTALL)

# Responses, each with the ground truth that it gives.
RIGHT = [
    ("Answer: 57", "57"),
    ("answer : 57.", "57"),
    ("**Answer:** 57", "57"),
    ("**Answer**: 57", "57"),
    ("Answer: **57**", "57"),
    ("Answer: $57$", "57"),
    (r"Answer: \( 57 \)", "57"),
    (r"Answer: \boxed{57}", "57"),
    (r"So it is $\boxed{57}$.", "57"),
    (r"\boxed{57 \text{ apples}}", "57"),
    ("The answer is 57.", "57"),
    ("#### 57", "57"),
    ("So there are 57 apples.", "57"),
    ("57", "57"),
    ("Answer: 57 dollars", "57"),
    ("Answer: $57", "57"),
    ("Answer: 57 marbles", "57"),
    ("Answer: 57 km/h", "57"),
    ("Answer: 57 units^2", "57"),
    ("Answer: 57°", "57"),
    ("Answer: x = 57", "57"),
    ("Answer: 40 + 17 = 57", "57"),
    ("Answer: 057", "57"),
    ("Answer: 57.0", "57"),
    ("Answer: 1,234", "1234"),
    (r"Answer: \frac12", r"\frac{1}{2}"),
    (r"Answer: \dfrac{1}{2}", r"\frac{1}{2}"),
    ("Answer: 1/2", r"\frac{1}{2}"),
    ("Answer: 0.5", r"\frac{1}{2}"),
    (r"\boxed{2\sqrt2}", r"\sqrt{8}"),
    ("Answer: 1+x", "x+1"),
    ("Answer: (1, 2)", "(1,2)"),
    ("Answer: Tuesday", "Tuesday"),
    (r"Answer: \text{Tuesday}", "Tuesday"),
    ("Answer: tuesday", "Tuesday"),
]
# Responses that do not give the ground truth, or not it alone.
WRONG = [
    ("Answer: 57 or 58", "57"),
    ("Answer: 58, not 57", "57"),
    ("57 first.\nAnswer: 58", "57"),
    ("Answer: 58\nAnd 57?", "57"),
    (r"\boxed{58}, which is 57 + 1", "57"),
    ("Answer: 5 7", "57"),
    ("Answer: 57x", "57"),
    ("Answer: 57%", "57"),
]
TRUTHS = [
    "57",
    "-57",
    "0.5",
    "1,234",
    "1/2",
    r"\frac{1}{2}",
    "50%",
    r"2\sqrt{3}",
    "x^2+1",
    "(1,2)",
    "57 cm",
    "Tuesday",
    "two\nlines",
    r"9^{9^{9}}",
]


def table(name: str) -> str:
    """Returns the table of that name.

    Raises:
        ValueError: If there is no such table.
    """
    if name == "rules":
        return _rows("ground truth", [(_shown(t), rules_that_read(t)) for t in TRUTHS])
    cases = {"right": RIGHT, "wrong": WRONG}.get(name)
    if cases is None:
        raise ValueError(f"{PAGE.name}: no table is called {name}")
    rows = []
    for response, truth in cases:
        taken = tuple(n for n, rule in ANSWER_RULES.items() if rule(response, truth).is_correct)
        rows.append((f"{_shown(response)} for {_shown(truth)}", taken))
    return _rows("response", rows)


def page(text: str) -> str:
    """Returns the page with its tables as they should be."""
    return _TABLE.sub(
        lambda m: f"<!-- table: {m.group(1)} -->\n{table(m.group(1))}\n<!-- end -->", text
    )


def _rows(head: str, rows: list[tuple[str, tuple[str, ...]]]) -> str:
    lines = [
        f"| {head} | {' | '.join(f'`{name}`' for name in ANSWER_RULES)} |",
        f"| --- |{' :-: |' * len(ANSWER_RULES)}",
    ]
    for first, names in rows:
        marks = " | ".join("✓" if name in names else "" for name in ANSWER_RULES)
        lines.append(f"| {first} | {marks} |")
    return "\n".join(lines)


def _shown(text: str) -> str:
    return f"`{text.replace(chr(10), ' ⏎ ').replace('|', chr(92) + '|')}`"


if __name__ == "__main__":
    before = PAGE.read_text(encoding="utf-8")
    after = page(before)
    PAGE.write_text(after, encoding="utf-8")
    sys.stdout.write(f"{PAGE.name}: {'written' if after != before else 'up to date'}\n")
