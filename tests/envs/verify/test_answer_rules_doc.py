"""docs/answer_rules.md says what the rules do."""

import re
import runpy
from pathlib import Path

import pytest

from rllib_dapo.envs.verify import ANSWER_RULES, check_rule

REPO = Path(__file__).parents[3]
TEXT = (REPO / "docs" / "answer_rules.md").read_text()
TOOL = runpy.run_path(str(REPO / "tools" / "answer_rule_tables.py"))


def test_the_tables_are_those_that_make_docs_writes() -> None:
    assert TOOL["page"](TEXT) == TEXT, "run `make docs`"
    assert all(f"<!-- table: {name} -->" in TEXT for name in ("right", "wrong", "rules"))


def test_every_rule_is_described() -> None:
    _, _, described = TEXT.partition("## The rules")
    rows = re.findall(r"^\| `([\w-]+)` \|", described.partition("\n## ")[0], re.MULTILINE)
    assert sorted(check_rule("rule", name) for name in rows) == sorted(ANSWER_RULES)


def test_every_right_answer_is_taken_by_some_rule_and_no_wrong_one_by_all() -> None:
    def takers(response: str, truth: str) -> list[str]:
        return [n for n, rule in ANSWER_RULES.items() if rule(response, truth).is_correct]

    assert all(takers(*case) for case in TOOL["RIGHT"])
    assert not [case for case in TOOL["WRONG"] if len(takers(*case)) > len(ANSWER_RULES) // 2]


def test_a_table_that_nobody_makes_is_named() -> None:
    with pytest.raises(ValueError, match="no table is called left"):
        TOOL["page"](TEXT.replace("<!-- table: right -->", "<!-- table: left -->"))
