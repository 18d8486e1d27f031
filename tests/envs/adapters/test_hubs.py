"""The adapters of hubs, with the real packages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from rllib_dapo.envs.adapters.hub import import_hub
from rllib_dapo.envs.hosts.host_settings import take_host_settings

GEM, ARENA = "rllib_dapo/Gem-v0", "rllib_dapo/TextArena-v0"
SKYRL, VERIFIERS = "rllib_dapo/SkyRLGym-v0", "rllib_dapo/Verifiers-v0"
SUMS = "rllib_dapo/Arithmetic-v0"
PACKAGES = {GEM: "gem", ARENA: "textarena", SKYRL: "skyrl_gym", VERIFIERS: "verifiers"}


@pytest.fixture(autouse=True)
def _own_tasksets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasksets beside this file can be imported, as an installed package of the hub can."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "tasksets"))


@pytest.fixture
def made() -> Iterator[list[Any]]:
    environments: list[Any] = []
    yield environments
    for env in environments:
        env.close()


def _make(made: list[Any], env: str, **settings: Any) -> Any:
    if find_spec(PACKAGES[env]) is None:
        pytest.skip(f"needs the package {PACKAGES[env]}")
    made.append(gymnasium.make(env, **settings))
    return made[-1]


def _refusal(env: str, **settings: Any) -> str:
    if find_spec(PACKAGES[env]) is None:
        pytest.skip(f"needs the package {PACKAGES[env]}")
    with pytest.raises(ValueError, match=r"task=|problem|unknown setting") as caught:
        gymnasium.make(env, **settings)
    told = str(caught.value)
    assert "\n" not in told
    return told


def test_a_game_of_gem_is_won_by_its_answer_and_lost_by_nonsense(made: list[Any]) -> None:
    env = _make(made, GEM, task="game:GuessTheNumber-v0-easy")
    prompt, _ = env.reset(seed=3)
    assert "number between 1 and 10" in prompt

    number = env.unwrapped._env.game_number
    other = number % 10 + 1
    observation, reward, done, _, _ = env.step(f"\\boxed{{{other}}}")
    assert (reward, done) == (0.0, False)
    assert "target number is" in observation
    _, reward, done, _, info = env.step(f"\\boxed{{{number}}}")
    assert (reward, done, info["is_correct"]) == (1.0, True, True)

    env.reset(seed=3)
    _, reward, done, _, info = env.step("no idea")
    assert (reward, done, info["is_correct"]) == (-0.1, True, False)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("game:GuessTheNumbr-v0-easy", "did you mean game:GuessTheNumber-v0-easy"),
        ("rg:leg_counting", "rllib_dapo/ReasoningGym-v0"),
        ("code:Taco8k", "runs the programs"),
        ("eval:CodeContest", "runs the programs"),
        (None, "must be the name of an environment"),
    ],
)
def test_what_gem_cannot_do_here_is_refused(task: Any, told: str) -> None:
    assert told in _refusal(GEM, task=task)


def test_a_game_of_textarena_is_played_alone(made: list[Any]) -> None:
    env = _make(made, ARENA, task="GuessTheNumber-v0")
    prompt, _ = env.reset(seed=5)
    assert "Guess The Number" in prompt
    number = env.unwrapped._game.state.game_state["game_number"]

    observation, reward, done, _, _ = env.step(f"[{number % 20 + 1}]")
    assert (reward, done) == (0.0, False)
    assert "[" not in observation  # what was said before is not said again
    _, reward, done, _, info = env.step("x" * 50_000 + f"[{number}]")
    assert (reward, done, info["is_correct"]) == (1.0, True, True)


@pytest.mark.parametrize("task", ["KuhnPoker-v0", "QuantumTicTacToe-v0", "Poker-v0"])
def test_a_game_for_several_players_is_refused(task: str) -> None:
    assert f"task={task!r}: is a game for several players" in _refusal(ARENA, task=task)


def test_an_environment_of_skyrl_gym_judges_the_problems_of_another(made: list[Any]) -> None:
    env = _make(made, SKYRL, task="gsm8k", problems=SUMS)
    prompt, _ = env.reset(seed=3)
    first, second = (int(part) for part in prompt[0]["content"].removesuffix("=").split("+"))
    _, reward, done, _, info = env.step(f"#### {first + second}")
    assert (reward, done, info["is_correct"]) == (1.0, True, True)

    env.reset(seed=3)
    assert env.step(f"{first + second}")[1] == 0.0  # right, and not in the form that it asks for


def test_an_environment_of_skyrl_gym_asks_again(made: list[Any]) -> None:
    env = _make(made, SKYRL, task="gsm8k_multi_turn", problems=SUMS, max_turns=2)
    env.reset(seed=3)
    observation, reward, done, _, _ = env.step("#### -1")
    assert observation[0]["role"] == "user"
    assert "#### ANSWER" in observation[0]["content"]
    assert (reward, done) == (0.1, False)  # 0.2 for the form, over two turns
    assert env.step("no")[1:3] == (0.0, True)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"task": "lcb"}, "runs the programs"),
        ({"task": "gsm9k"}, "did you mean gsm8k"),
        ({"task": "search"}, "search_url"),
        ({"task": "gsm8k", "problems": "nothing"}, "problems='nothing'"),
        ({"task": "gsm8k", "problem_config": {"max_opperand": 3}}, "max_operand"),
    ],
)
def test_what_skyrl_gym_cannot_do_here_is_refused(settings: dict[str, Any], told: str) -> None:
    assert told in _refusal(SKYRL, **{"problems": SUMS, **settings})


def test_a_task_of_verifiers_is_scored_by_its_rewards(made: list[Any]) -> None:
    env = _make(made, VERIFIERS, task="sums_taskset", arguments={"size": 5})
    prompts = {env.reset(seed=seed)[0][-1]["content"] for seed in range(5)}
    assert prompts == {"0+0=", "1+1=", "2+2=", "3+3=", "4+4="}  # an epoch

    prompt, _ = env.reset(seed=3)
    assert [message["role"] for message in prompt] == ["system", "user"]
    answer = 2 * int(prompt[-1]["content"].partition("+")[0])
    _, reward, done, _, info = env.step(f" {answer} ")
    assert (reward, done, info["is_correct"]) == (1.25, True, True)
    assert info["reward_components"] == {"right": 1.0, "brief": 0.25}

    env.reset(seed=3)
    assert env.step("a long way round to nothing")[1] == 0.0


def test_a_conversation_of_verifiers_goes_on_as_its_program_says(made: list[Any]) -> None:
    env = _make(made, VERIFIERS, task="guess_taskset", max_turns=3)
    prompt, _ = env.reset(seed=0)
    assert prompt == [{"role": "user", "content": "Guess my number."}]
    assert env.step("3")[:3] == ([{"role": "user", "content": "Larger."}], 0.0, False)
    _, reward, done, _, info = env.step("7")
    assert (reward, done, info["is_correct"]) == (1.0, True, True)

    # a condition of the task ends it
    env.reset(seed=0)
    _, reward, done, _, _ = env.step("fool")
    assert (reward, done) == (0.0, True)

    # the last turn there is: the program is told so, and scores what was said
    env.reset(seed=0)
    env.step("1")
    env.step("2")
    _, reward, done, _, info = env.step("3")
    assert (reward, done, info["is_correct"]) == (0.25, True, False)


def test_a_reward_of_verifiers_that_raises_costs_one_verdict(made: list[Any]) -> None:
    env = _make(made, VERIFIERS, task="sums_taskset", arguments={"size": 5})
    env.reset(seed=1)
    with pytest.raises(Exception, match="ask for nothing"):
        env.step("raise")
    env.reset(seed=1)
    _, reward, done, _, info = env.step("nan")
    assert math.isnan(reward)
    assert done
    assert info["missing_reason"]
    env.reset(seed=1)
    assert not math.isnan(env.step("4")[1])


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("no_such_taskset", "not found"),
        ("endless_taskset", "limit: 1000"),
        ("sandbox_taskset", "a sandbox to score in (scored_there)"),
        ("old_taskset", "verifiers before 0.2"),
        ("two_agents_taskset", "several agents (first, second)"),
    ],
)
def test_what_verifiers_cannot_do_here_is_refused(task: str, told: str) -> None:
    assert told in _refusal(VERIFIERS, task=task)


def test_a_setting_that_a_taskset_does_not_have_is_named() -> None:
    told = _refusal(VERIFIERS, task="sums_taskset", arguments={"sizo": 5})
    assert "taskset.sizo: Extra inputs are not permitted" in told


def test_an_endless_taskset_has_its_first_tasks(made: list[Any]) -> None:
    env = _make(made, VERIFIERS, task="endless_taskset", limit=3)
    prompts = [env.reset(seed=seed)[0][0]["content"] for seed in range(3)]
    assert sorted(prompts) == ["0", "1", "2"]


@pytest.mark.parametrize("env", PACKAGES)
def test_a_hub_runs_in_processes_of_its_own(env: str) -> None:
    settings, own = take_host_settings(env, {"task": "any", "verify_seconds": 7})
    assert settings is not None
    assert settings.seconds == 7
    assert own == {"task": "any"}
    here, _ = take_host_settings(env, {"task": "any", "verify_in": "here"})
    assert here is None


def test_a_package_that_is_not_there_is_named_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"needs the package no_such_hub .*pip install x"):
        import_hub("no_such_hub", install="pip install x")
