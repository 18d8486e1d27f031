import copy
import math
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import psutil
import pytest
from gymnasium.utils.env_checker import check_env

from rllib_dapo.envs.adapters import reasoning_gym
from rllib_dapo.envs.adapters.evaluated_answers import EXPRESSIONS, LISTS
from rllib_dapo.envs.adapters.reasoning_gym import ReasoningGymEnv
from rllib_dapo.envs.processes.replies import DeadlineMissed

HOSTILE = runpy.run_path(str(Path(__file__).parents[1] / "verify" / "hostile.py"))["HOSTILE"]
pytestmark = pytest.mark.skipif(
    find_spec("reasoning_gym") is None, reason="needs the package reasoning-gym"
)


@pytest.fixture(scope="module")
def legs() -> Iterator[ReasoningGymEnv]:
    env = ReasoningGymEnv({"task": "leg_counting", "max_animals": 3})
    yield env
    env.close()


@pytest.fixture
def make() -> Iterator[Callable[..., ReasoningGymEnv]]:
    made = []

    def make_env(task: str, **settings: Any) -> ReasoningGymEnv:
        made.append(ReasoningGymEnv({"task": task} | settings))
        return made[-1]

    yield make_env
    for env in made:
        env.close()


def prompts(env: ReasoningGymEnv, seeds: range) -> list[str]:
    return [env.reset(seed=seed)[0] for seed in seeds]


def test_it_passes_gymnasiums_checks() -> None:
    env = gymnasium.make("rllib_dapo/ReasoningGym-v0", task="leg_counting")
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_a_response_is_worth_its_tasks_score(legs: ReasoningGymEnv) -> None:
    prompt, info = legs.reset(seed=3)
    assert "legs" in prompt
    assert prompt.endswith("as <answer>...</answer>.")
    assert info["problem_id"].startswith("leg_counting/")
    _, reward, terminated, _, step_info = legs.step(
        f"Let me see. <answer> {info['answer']} </answer>"
    )
    assert (reward, terminated, step_info["is_correct"], step_info["prediction"]) == (
        1.0,
        True,
        True,
        info["answer"],
    )

    legs.reset(seed=3)
    _, reward, _, _, step_info = legs.step("<answer>no idea</answer>")
    assert (reward, step_info["is_correct"]) == (0.0, False)


def test_a_score_between_is_the_reward_and_not_correct(
    make: Callable[..., ReasoningGymEnv],
) -> None:
    env = make("countdown")
    env.reset(seed=0)
    _, reward, _, _, info = env.step("<answer>1+1</answer>")
    assert 0 < reward < 0.99
    assert info["is_correct"] is False


def test_where_success_begins_can_be_set_and_left_open(
    make: Callable[..., ReasoningGymEnv],
) -> None:
    for success_at, told in ((0.05, {"is_correct": True}), (None, {})):
        env = make("countdown", success_at=success_at)
        env.reset(seed=0)
        _, reward, _, _, info = env.step("<answer>1+1</answer>")
        assert reward == 0.05
        assert {name: value for name, value in info.items() if name == "is_correct"} == told


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("<answer>1</answer> no, <answer> 2\n</answer> it is", "2"),
        ("just 3 ", "just 3"),
        ("<answer>4", "<answer>4"),
        ("<answer>x <answer>5</answer>", "5"),
        ("<answer></answer>", ""),
        ("<answer>" * 20_000, "<answer>" * 20_000),
    ],
)
def test_the_last_complete_tag_is_what_counts_or_without_one_all(
    legs: ReasoningGymEnv, response: str, answer: str
) -> None:
    assert legs.answer_in(response) == answer


def test_without_a_tag_the_whole_response_counts(make: Callable[..., ReasoningGymEnv]) -> None:
    env = make("leg_counting", answer_tag=None, template="{question}")
    prompt, info = env.reset(seed=0)
    assert "<answer>" not in prompt
    assert env.step(f" {info['answer']}\n")[1] == 1.0


# These tasks walk through sets of texts, which Python orders anew in every process.
@pytest.mark.parametrize(
    "task",
    [
        "leg_counting",
        pytest.param("isomorphic_strings", marks=pytest.mark.slow),
        pytest.param("polynomial_multiplication", marks=pytest.mark.slow),
        pytest.param("ransom_note", marks=pytest.mark.slow),
    ],
)
def test_a_problem_hangs_on_its_seed_alone_and_on_no_process(
    make: Callable[..., ReasoningGymEnv], task: str
) -> None:
    env = make(task)
    forward = prompts(env, range(10))
    env.step("1")
    assert prompts(env, range(9, -1, -1)) == forward[::-1]
    assert prompts(make(task), range(10)) == forward
    assert prompts(make(task, seed=1), range(10)) != forward
    assert len(set(forward)) > 5


def test_there_is_no_end_of_seeds(make: Callable[..., ReasoningGymEnv]) -> None:
    env = make("gsm_symbolic")
    assert len(set(prompts(env, range(497, 503)))) == 6
    assert env.reset(seed=2**40)[0]


def test_train_and_heldout_never_share_a_problem(make: Callable[..., ReasoningGymEnv]) -> None:
    settings = {"max_animals": 1, "min_animals": 1, "max_instances": 5, "heldout_fraction": 0.3}
    train, heldout = (
        set(prompts(make("leg_counting", split=s, **settings), range(60)))
        for s in ("train", "heldout")
    )
    assert train
    assert heldout
    assert not train & heldout


@pytest.mark.slow
def test_what_takes_too_long_is_missing_and_the_next_verdict_is_not(
    make: Callable[..., ReasoningGymEnv], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "slow_tasks.py").write_text(
        "from rllib_dapo.envs.adapters.reasoning_gym_tasks import Tasks\n\n"
        "class SlowTasks(Tasks):\n"
        "    def score(self, seed, index, answer):\n"
        "        while answer == 'hang':\n"
        "            pass\n"
        "        return super().score(seed, index, answer)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(reasoning_gym, "_SERVICE", "slow_tasks:SlowTasks")

    env = make("leg_counting", verify_seconds=5)
    env.reset(seed=0)
    _, reward, _, _, info = env.step("<answer>hang</answer>")
    assert math.isnan(reward)
    assert info["missing_reason"].startswith("timeout: ")

    _, info = env.reset(seed=0)
    assert env.step(info["answer"])[1] == 1.0


@pytest.mark.slow
def test_a_stopped_process_costs_its_call_and_is_replaced(
    make: Callable[..., ReasoningGymEnv], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasoning_gym, "_ENTRY_SECONDS", 1.0)
    env = make("leg_counting", verify_seconds=1)
    before = env.problem(3)
    stopped = psutil.Process(env._team.pids[0])
    stopped.suspend()
    with pytest.raises(DeadlineMissed):
        env.problem(3)
    assert not stopped.is_running()

    monkeypatch.setattr(env, "_deadline", 600.0)
    assert env.problem(3) == before


@pytest.mark.slow
def test_answers_are_scored_side_by_side(
    make: Callable[..., ReasoningGymEnv], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "meeting_tasks.py").write_text(
        "import os, pathlib, time\n"
        "from rllib_dapo.envs.adapters.reasoning_gym_tasks import Tasks\n\n"
        "class MeetingTasks(Tasks):\n"
        "    def score(self, seed, index, answer):\n"
        f"        place = pathlib.Path({str(tmp_path)!r})\n"
        "        (place / f'{os.getpid()}.here').touch()\n"
        "        while len(list(place.glob('*.here'))) < 3:\n"
        "            time.sleep(0.01)\n"
        "        return super().score(seed, index, answer)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(reasoning_gym, "_SERVICE", "meeting_tasks:MeetingTasks")

    env = make("leg_counting", verify_processes=3, verify_seconds=600)
    problem = env.problem(0)
    tickets = [env.submit_to(problem, problem.answer) for _ in range(3)]
    assert [env.collect(ticket)[0] for ticket in tickets] == [1.0, 1.0, 1.0]


def test_a_file_in_the_current_folder_that_is_called_like_the_library_does_no_harm(
    make: Callable[..., ReasoningGymEnv], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "reasoning_gym.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert make("leg_counting").reset(seed=0)[0]


def test_closing_leaves_no_process(make: Callable[..., ReasoningGymEnv]) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    env = make("leg_counting")
    env.reset(seed=0)
    assert {child.pid for child in psutil.Process().children(recursive=True)} != before
    env.close()
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_a_copy_goes_its_own_way(legs: ReasoningGymEnv) -> None:
    _, info = legs.reset(seed=5)
    twin = copy.deepcopy(legs)
    legs.reset(seed=6)
    assert twin.step(info["answer"])[1] == 1.0
    twin.close()


def test_hostile_answers_are_scored_in_the_process_and_never_run(
    make: Callable[..., ReasoningGymEnv], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # which the process inherits
    before, imported = set(psutil.Process().children(recursive=True)), set(sys.modules)
    # All tasks whose scorers run an answer through Python, in equal shares.
    env = make(
        "composite",
        datasets=[{"name": name} for name in sorted(LISTS | EXPRESSIONS)],
        answer_tag=None,
        verify_seconds=60,
    )
    attacks = [f"open({str(tmp_path / 'pwned')!r}, 'w')"] * 50

    for seed, answer in enumerate([*HOSTILE, *attacks]):
        env.reset(seed=seed % 50)
        _, reward, _, _, info = env.step(answer)
        assert reward < 0.5, answer[:100]
        assert info["is_correct"] is False

    assert os.listdir(tmp_path) == []
    assert not any(
        name.partition(".")[0] == "reasoning_gym" for name in set(sys.modules) - imported
    )
    (worker,) = set(psutil.Process().children(recursive=True)) - before
    assert worker.children() == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "^ReasoningGymEnv: task=None: no such task; there are"),
        (
            {"task": "leg_countin"},
            "^ReasoningGymEnv: task='leg_countin': no such task; did you mean 'leg_counting'",
        ),
        (
            {"task": "leg_counting", "max_animal": 2},
            "^ReasoningGymEnv: unknown setting 'max_animal' .*'max_animals'",
        ),
        (
            {"task": "leg_counting", "max_animals": 0},
            "^ReasoningGymEnv: task='leg_counting' refuses its settings",
        ),
        ({"task": "leg_counting", "answer_tag": "<a>"}, "^answer_tag='<a>': must be a name"),
        (
            {"task": "leg_counting", "success_at": "all"},
            "^success_at='all': must be a number, or None",
        ),
        (
            {"task": "leg_counting", "split": "test"},
            "^split='test': must be one of all, train, heldout",
        ),
        (
            {"task": "leg_counting", "verify_seconds": 0},
            "^verify_seconds=0: must be a number above 0",
        ),
        (
            {"task": "leg_counting", "template": "x"},
            "^template='x': must be a text with the field {question}",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_one_line(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ReasoningGymEnv(settings)
    assert "\n" not in str(caught.value)
