"""`math_verify` refuses no right answer that the library takes when it is asked bare."""

import json
import logging
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from rllib_dapo.envs.verify import math_verify

FORMS = [
    "{}",
    "{}.",
    "${}$",
    "\\({}\\)",
    "\\[ {} \\]",
    "#### {}",
    "{} apples",
    "**{}**",
    "x = {}",
    "It is {}, I think.",
    "So there are {} in total.",
    "Answer: {}",
    "Answer: {}.",
    "Answer:\n{}",
    "Answer:\n\n{} apples\n",
    "Answer: {}\n\nThat was easy.",
    "**Answer**: {}",
    "**Answer:** {}",
    "**Answer:**\n\n$${}$$",
    "Answer: ${}$.",
    "Answer: \\( {} \\).",
    "Answer: {} marbles",
    "Answer: {} km/h",
    "Answer: {}°",
    "Answer: {} m^2",
    "Answer: {} percent",
    "Answer: ${} per day",
    "Answer: {} €",
    "Answer: {}, since 3 + 4 is 7",
    "Answer: 3 + 4 = 7, 7 + 0 = {}",
    "Answer: The total is {}.",
    "Answer: she has {} apples left",
    "The answer is {}.",
    "The answer is ${}.",
    "The answer is: {}",
    "The final answer is ${}$. I hope it is correct.",
    "### Final Answer\n\n{}",
    "the answer would be {} dollars",
    "<answer> {} </answer>",
    "\\boxed{{{}}}",
    "So it is $\\boxed{{{}}}$.",
    "\\boxed{{{}\\text{{ apples}}}}",
]
# Of every kind that there is in GSM8K and MAWPS.
NUMBERS = ["18", "1,234", "-7", "43.0", "0.5", "10.6666666667", "1234567"]


def library_takes(response: str, truth: str) -> bool:
    """The verdict of the library as a user would ask it."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return bool(verify(parse(truth), parse(response)))


@pytest.mark.parametrize("form", FORMS, ids=ascii)
def test_no_right_answer_that_the_library_takes_is_refused(form: str) -> None:
    assert len(set(FORMS)) >= 40
    for number in NUMBERS:
        response = form.format(number)
        if not math_verify(response, number).is_correct:
            assert not library_takes(response, number), response


@pytest.mark.parametrize("form", FORMS, ids=ascii)
def test_what_is_taken_beyond_the_library_is_not_wrong(form: str) -> None:
    for number in NUMBERS:
        wrong = "19" if number == "18" else "18"
        assert math_verify(form.format(wrong), number).is_correct is False, (form, number)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gsm8k-train.jsonl", "mawps.jsonl"])
def test_no_gold_answer_of_the_data_sets_is_refused_in_any_form(
    shared_data: Callable[[str], Path], name: str
) -> None:
    rows = [json.loads(line) for line in shared_data(name).read_text().splitlines()]
    golds = {str(row.get("target", row.get("answer"))).rpartition("#### ")[2] for row in rows}
    refused = [
        (response, gold)
        for gold in sorted(golds)
        for form in FORMS
        if not math_verify(response := form.format(gold), gold).is_correct
    ]
    few = random.Random(0).sample(refused, min(len(refused), 300))
    assert not [case for case in few if library_takes(*case)]
