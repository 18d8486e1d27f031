r"""The recipe's rules give the verdicts of the recipe's published checker.

`data/recipe_verdicts.json` holds what the checker itself said: 55 forms around 61 answers, each
beside a ground truth, and compositions of its vocabulary drawn at random. A verdict string has a
digit for each pair or mode; `predictions` are the texts that the checker compared.
"""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.envs.verify import ANSWER_RULES, VerdictKind, dapo_recipe, dapo_recipe_or_box

RULES = ("dapo_recipe", "dapo_recipe_box", "dapo_recipe_or_box")
TABLE = json.loads(Path(__file__).with_name("data").joinpath("recipe_verdicts.json").read_text())


def test_the_table_holds_thousands_of_verdicts_of_both_kinds() -> None:
    cases = len(TABLE["forms"]) * len(TABLE["pairs"])
    accepted = sum(row["dapo_recipe"].count("1") for row in TABLE["forms"])
    assert (len(TABLE["forms"]) >= 50, cases >= 2_000) == (True, True)
    assert cases // 3 < accepted < 2 * cases // 3


@pytest.mark.parametrize("row", TABLE["forms"], ids=lambda row: ascii(row["form"])[:40])
def test_every_form_gets_the_checkers_verdicts_and_predictions(row: dict[str, Any]) -> None:
    responses = [(row["form"].format(written), truth) for written, truth in TABLE["pairs"]]
    for rule in RULES:
        verdicts = [ANSWER_RULES[rule](*response).is_correct for response in responses]
        assert verdicts == [digit == "1" for digit in row[rule]], rule

    read = [dapo_recipe(*response) for response in responses]
    # The checker's word for an answer that it does not find is, here, no prediction.
    assert [v.prediction for v in read] == [
        "" if v.reason else prediction
        for v, prediction in zip(read, row["predictions"], strict=True)
    ]
    assert all(
        prediction == "[INVALID]"
        for v, prediction in zip(read, row["predictions"], strict=True)
        if v.reason
    )


def test_compositions_of_everything_that_the_checker_knows_get_its_verdicts() -> None:
    for response, truth, digits in TABLE["compositions"]:
        verdicts = [ANSWER_RULES[rule](response, truth).is_correct for rule in RULES]
        assert verdicts == [digit == "1" for digit in digits], (response, truth)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Answer: 5 units^2", "5"),
        (r"Answer: \( 5 \)", "5"),
        ("answer : 5.", "5"),
        ("Answer: 5 marbles", "5"),
        ("Answer: 12", "1,234"),
        (r"\boxed{5}", "5"),
    ],
)
def test_what_the_recipe_refuses_is_refused(response: str, answer: str) -> None:
    assert dapo_recipe(response, answer).kind is VerdictKind.WRONG


def test_the_checker_of_today_takes_a_box_where_there_is_no_answer_line() -> None:
    assert dapo_recipe_or_box(r"So \boxed{5}.", "5").is_correct is True
    assert dapo_recipe_or_box("Answer: 6 or \\boxed{5}", "5").is_correct is False
    assert dapo_recipe_or_box(r"\boxed{5}" + "x" * 100, "5").is_correct is False
    assert dapo_recipe_or_box("Answer: 5", "5").is_correct is True


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("text", ["$", "{", r"\text{", r"\boxed{", "frac", "sqrt", "an ", ",\n"])
def test_a_ground_truth_at_the_bound_is_read_in_milliseconds(rule: str, text: str) -> None:
    answer = (text * 2_000)[:2_000]
    began = time.thread_time()
    assert ANSWER_RULES[rule]("Answer: 5", answer).kind is VerdictKind.WRONG
    assert time.thread_time() - began < 0.5
    verdict = ANSWER_RULES[rule]("Answer: 5", f"{answer}5")
    assert verdict.reason == "too long: the ground truth has more than 2000 characters"
