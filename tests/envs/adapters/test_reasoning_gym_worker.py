import inspect
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from rllib_dapo.envs.adapters.reasoning_gym_worker import (
    BLOCK,
    EXPRESSIONS,
    LISTS,
    Refused,
    Tasks,
    is_harmless_list,
    is_plain_expression,
)

needs_package = pytest.mark.skipif(
    find_spec("reasoning_gym") is None, reason="needs the package reasoning-gym"
)

ATTACKS = [
    "__import__('os').system('touch pwned')",
    "open('pwned', 'w')",
    "().__class__.__base__.__subclasses__()",
    "[print(1)]",
    "(lambda: 1)()",
    "[x for x in range(10**10)]",
    "'a' * 10**10",
    "9**9**9**9",
    "f'{open(1)}'",
    "[1, (y := 5)]",
    "exec('1')",
    "10**10**10",
    "__builtins__",
    "x.y",
    "x[0]",
    "factorial(10**9)",
    "a if b else c",
]
# Composite is made of other tasks, and refuses to be made of none.
ALONE = {"composite": {"datasets": [{"name": "leg_counting"}, {"name": "puzzle24", "weight": 2.0}]}}


@pytest.mark.parametrize(
    "answer",
    [
        *ATTACKS,
        "1 if",
        "x" * 2_000,
        "1e999",
        "1e-9999999",
        "1_0",
        "2**101",
        "(((2**9)**9)**9)**9",
        "",
    ],
)
def test_only_arithmetic_is_a_plain_expression(answer: str) -> None:
    assert not is_plain_expression(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "1",
        " 6*(5-1) ",
        "x**2/2 + C",
        "-3*x**4 + 2*x",
        "exp(2*x)*sin(x)/5",
        "(7 + 3) * 2 - 8 / 4",
        "sqrt(x)",
        "x**(1/2)",
    ],
)
def test_what_the_tasks_ask_for_is_a_plain_expression(answer: str) -> None:
    assert is_plain_expression(answer)


@pytest.mark.parametrize("answer", [attack for attack in ATTACKS if attack != "__builtins__"])
def test_what_does_something_is_no_harmless_list(answer: str) -> None:
    assert not is_harmless_list(answer)


@pytest.mark.parametrize(
    "answer",
    ["1 2 3", "[[1, 0], [0, 1]]", "['A', 'B']", "ABC", "_ Q _\nQ _ _", "[-1, 2]", "", "(" * 500],
)
def test_lists_and_what_is_no_python_are_harmless(answer: str) -> None:
    assert is_harmless_list(answer)


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def all_tasks() -> list[str]:
    from reasoning_gym.factory import DATASETS

    return sorted(DATASETS)


@needs_package
def test_every_scorer_that_evaluates_answers_is_known() -> None:
    from reasoning_gym.factory import DATASETS

    evaluates = set()
    for name, (cls, _) in DATASETS.items():
        source = inspect.getsource(sys.modules[cls.__module__])
        scorer = source[source.index("def score_answer") :] if "def score_answer" in source else ""
        if re.search(
            r"\b(?:eval|parse_expr|sympify|exec)\((?:answer|ans|user_answer|\w*answer\w*)\b", scorer
        ):
            evaluates.add(name)
    # What sorts numbers evaluates its own list of them.
    assert evaluates - {"number_sorting"} == LISTS | EXPRESSIONS


@needs_package
def test_every_task_makes_and_scores_problems_for_any_seed() -> None:
    tasks = all_tasks()
    assert len(tasks) > 100
    for name in tasks:
        task = Tasks(name, ALONE.get(name, {}))
        for seed, index in ((0, 0), (7, BLOCK - 1), (2**32 - BLOCK - 1, 3)):
            entry = task.entry(seed, index)
            assert entry["question"], name
            if entry["answer"] is not None:
                assert task.score(seed, index, entry["answer"])["score"] >= 0.99, name
            for answer in ("", "no idea", "1", "[1, 2]"):
                assert 0 <= task.score(seed, index, answer)["score"] <= 1, name
        assert Tasks(name, ALONE.get(name, {})).entry(7, 3) == task.entry(7, 3), name


@needs_package
def test_no_answer_is_run(empty_folder: Path) -> None:
    for name in sorted(LISTS | EXPRESSIONS):
        for task in (Tasks(name, {}), Tasks("composite", {"datasets": [{"name": name}]})):
            for attack in ATTACKS:
                result = task.score(0, 0, attack)
                assert result["score"] < 0.1, (name, attack)
    assert os.listdir(empty_folder) == []


@needs_package
def test_a_scorer_that_evaluates_answers_is_not_even_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from reasoning_gym.factory import DATASETS

    asked = []
    for name in sorted(LISTS | EXPRESSIONS):
        monkeypatch.setattr(
            DATASETS[name][0],
            "score_answer",
            lambda self, answer, entry: asked.append(answer) or 0.5,
        )
        for task in (Tasks(name, {}), Tasks("composite", {"datasets": [{"name": name}]})):
            for attack in ATTACKS:
                if attack != "__builtins__" or name in EXPRESSIONS:
                    assert task.score(0, 0, attack)["reason"].startswith(
                        "the answer is too long, or nothing"
                    ), name
    assert asked == []


@needs_package
def test_a_task_knows_its_settings_and_refuses_others() -> None:
    assert (
        "1 cow"
        not in Tasks("leg_counting", {"max_instances": 1}).entry(0, 0)["question"].split()[0]
    )
    for task, settings, message in (
        (
            "leg_countin",
            {},
            r"^task='leg_countin': no such task; did you mean 'leg_counting'\?; there are ab, acre, ",
        ),
        (None, {}, "^task=None: no such task; there are ab, acre, "),
        (["ab"], {}, r"^task=\['ab'\]: no such task; there are ab, acre, "),
        (
            "leg_counting",
            {"max_animal": 3},
            "^unknown setting 'max_animal' .*; did you mean 'max_animals'",
        ),
        ("leg_counting", {"seed": 3}, "^unknown setting 'seed'"),
        ("leg_counting", {"max_animals": -3}, "^task='leg_counting' refuses its settings"),
        (
            "composite",
            {},
            "^task='composite' refuses its settings .*: Must specify at least one dataset",
        ),
    ):
        with pytest.raises(Refused, match=message):
            Tasks(task, settings)
