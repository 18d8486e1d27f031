import os
import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest

from rllib_dapo.envs.adapters.evaluated_answers import EXPRESSIONS, LISTS
from rllib_dapo.envs.adapters.reasoning_gym_tasks import BLOCK, Tasks
from rllib_dapo.envs.processes.service import Refused

ATTACKS = runpy.run_path(str(Path(__file__).with_name("test_evaluated_answers.py")))["ATTACKS"]

needs_package = pytest.mark.skipif(
    find_spec("reasoning_gym") is None, reason="needs the package reasoning-gym"
)

# Composite is made of other tasks, and refuses to be made of none.
ALONE = {"composite": {"datasets": [{"name": "leg_counting"}, {"name": "puzzle24", "weight": 2.0}]}}


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def all_tasks() -> list[str]:
    from reasoning_gym.factory import DATASETS

    return sorted(DATASETS)


@needs_package
@pytest.mark.slow
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
            r"^task='leg_countin': no such task; did you mean 'leg_counting'\?; "
            r"there are ab, acre, ",
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
