import copy
import json
import math
import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rllib_dapo.envs import Problem, SingleStepTextEnv, Verdict
from rllib_dapo.envs.verdict_outcome import reward_and_info


class ReverseEnv(SingleStepTextEnv):
    """All that a user writes for an environment of their own."""

    default_settings = {"length": 5}  # noqa: RUF012

    def problem(self, seed: int) -> Problem:
        word = "".join(random.Random(seed).choices("abcdefgh", k=self.settings["length"]))
        return Problem(prompt=f"Reverse {word}:", answer=word[::-1], problem_id=word)

    def score(self, problem: Problem, response: str) -> Verdict:
        return Verdict(is_correct=response.strip() == problem.answer, prediction=response.strip())


class FixedVerdictEnv(ReverseEnv):
    default_settings = {"verdict": None}  # noqa: RUF012

    def problem(self, seed: int) -> Problem:
        return Problem(prompt="?", answer="a", problem_id=str(seed))

    def score(self, problem: Problem, response: str) -> Verdict:
        if isinstance(self.settings["verdict"], Exception):
            raise self.settings["verdict"]
        return self.settings["verdict"]


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    gymnasium.register("test_base/Reverse-v0", ReverseEnv)
    yield
    del gymnasium.registry["test_base/Reverse-v0"]


def step(verdict: Any, response: str = "r") -> tuple[str, float, bool, bool, dict[str, Any]]:
    env = FixedVerdictEnv(verdict=verdict)
    env.reset(seed=0)
    return env.step(response)


@pytest.mark.filterwarnings("error")
def test_an_environment_of_ones_own_passes_gymnasiums_checks_without_a_warning() -> None:
    check_env(gymnasium.make("test_base/Reverse-v0").unwrapped)


def test_an_episode_is_one_prompt_and_one_response() -> None:
    env = ReverseEnv()
    prompt, info = env.reset(seed=4)
    assert prompt == f"Reverse {info['problem_id']}:"
    assert info["answer"] == info["problem_id"][::-1]
    observation, reward, terminated, truncated, info = env.step(f" {info['answer']}\n")
    assert (observation, reward, terminated, truncated) == ("", 1.0, True, False)
    assert info == {"is_correct": True, "prediction": info["answer"], "answer": info["answer"]}


def test_a_wrong_response_costs_one() -> None:
    _, reward, _, _, info = step(Verdict(is_correct=False, prediction="b"))
    assert reward == -1.0
    assert info == {"is_correct": False, "prediction": "b", "answer": "a"}


def test_a_missing_verdict_is_not_a_number_and_says_why() -> None:
    _, reward, terminated, _, info = step(Verdict(is_correct=None, reason="out of time"))
    assert math.isnan(reward)
    assert terminated
    assert info == {
        "is_correct": None,
        "prediction": "",
        "answer": "a",
        "missing_reason": "out of time",
    }


def test_a_missing_verdict_without_a_reason_still_gets_one() -> None:
    assert step(Verdict(is_correct=None))[4]["missing_reason"] == "the scorer gave no verdict"


def test_a_scorer_that_raises_gives_a_missing_verdict_and_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    env = FixedVerdictEnv(verdict=RuntimeError("boom"))
    for seed in range(3):
        env.reset(seed=seed)
        _, reward, _, _, info = env.step("r")
        assert math.isnan(reward)
        assert info["is_correct"] is None
        assert info["missing_reason"] == "crash: the scorer raised RuntimeError: boom"
    assert [record.message for record in caplog.records] == [
        "FixedVerdictEnv.score failed on problem 0"
    ]


def test_a_scorer_that_returns_no_verdict_is_told_so() -> None:
    _, reward, _, _, info = step(True)
    assert math.isnan(reward)
    assert info["missing_reason"] == "crash: score must return a Verdict, not bool"


def test_the_scorer_may_set_the_reward_beside_its_verdict() -> None:
    _, reward, _, _, info = step(Verdict(is_correct=True, reward=0.25))
    assert reward == 0.25
    assert info["is_correct"] is True


def test_a_grade_without_a_verdict_is_a_reward_and_says_nothing_of_correctness() -> None:
    _, reward, _, _, info = step(Verdict(is_correct=None, reward=0.25))
    assert reward == 0.25
    assert "is_correct" not in info
    assert "missing_reason" not in info


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf, "1", True])
def test_a_reward_that_is_no_finite_number_is_missing(reward: Any) -> None:
    value, info = reward_and_info(Verdict(is_correct=True, reward=reward))
    assert math.isnan(value)
    assert info["is_correct"] is None
    assert info["missing_reason"] == f"crash: the scorer gave the reward {reward!r}"


def test_what_a_reward_is_made_of_is_told_beside_it() -> None:
    parts = {"format": 0.5, "answer": -1.0}
    _, reward, _, _, info = step(Verdict(is_correct=False, reward=-0.5, components=parts))
    assert reward == -0.5
    assert info["reward_components"] == parts
    assert "reward_components" not in step(Verdict(is_correct=False))[4]


def test_numpy_values_become_plain_ones() -> None:
    value, info = reward_and_info(Verdict(is_correct=np.bool_(True), reward=np.float32(0.5)))
    assert type(value) is float
    assert info["is_correct"] is True


def test_stepping_before_a_reset_or_twice_asks_for_a_reset() -> None:
    env = ReverseEnv()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("x")
    env.reset(seed=0)
    env.step("x")
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("x")
    env.reset(seed=0)
    env.step("x")


def test_an_action_that_is_no_text_is_refused_and_can_be_repeated() -> None:
    env = ReverseEnv()
    env.reset(seed=0)
    with pytest.raises(gymnasium.error.InvalidAction, match="must be a str, not list"):
        env.step([1, 2])  # type: ignore[arg-type]
    env.step("x")


def test_settings_come_as_a_mapping_or_by_name_and_names_win() -> None:
    assert len(ReverseEnv({"length": 3}).problem(0).answer) == 3
    assert len(ReverseEnv(length=4).problem(0).answer) == 4
    assert len(ReverseEnv({"length": 3}, length=4).problem(0).answer) == 4
    assert len(gymnasium.make("test_base/Reverse-v0", length=6).unwrapped.problem(0).answer) == 6


def test_unknown_settings_are_refused_either_way() -> None:
    guess = r"^ReverseEnv: unknown setting 'lenght' \(value 3\); did you mean 'length'\?"
    message = guess + " Known settings: length, render_mode, verify_in, verify_memory_mib, .*$"
    with pytest.raises(ValueError, match=message):
        ReverseEnv({"lenght": 3})
    with pytest.raises(ValueError, match=message):
        gymnasium.make("test_base/Reverse-v0", lenght=3)


def test_a_config_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(ValueError, match="config='length': must be a mapping"):
        ReverseEnv("length")  # type: ignore[arg-type]


def test_a_render_mode_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="render_mode='human': must be one of ansi"):
        ReverseEnv(render_mode="human")


def test_it_renders_the_prompt_and_the_last_response() -> None:
    env = ReverseEnv(render_mode="ansi")
    assert env.render() == ""
    prompt, _ = env.reset(seed=0)
    assert env.render() == prompt
    env.step("fedcba")
    assert env.render() == f"{prompt}\nfedcba"


def test_resets_without_a_seed_follow_the_last_seed() -> None:
    def walk(env: ReverseEnv) -> list[str]:
        return [env.reset(seed=9)[0], *(env.reset()[0] for _ in range(5))]

    one = walk(ReverseEnv())
    assert one == walk(ReverseEnv())
    assert len(set(one)) == 6


def test_the_problem_of_a_seed_does_not_hang_on_what_came_before() -> None:
    env, fresh = ReverseEnv(), ReverseEnv()
    for _ in range(3):
        env.reset()
        env.step("x")
    assert env.reset(seed=5) == fresh.reset(seed=5)


def test_a_vector_environment_carries_texts_and_infos() -> None:
    vector = gymnasium.vector.SyncVectorEnv([lambda: ReverseEnv({"length": 3})] * 3)
    prompts, infos = vector.reset(seed=[1, 2, 1])
    assert prompts[0] == prompts[2] != prompts[1]
    _, rewards, terminated, _, infos = vector.step(
        [infos["answer"][0], "wrong", infos["answer"][0]]
    )
    assert rewards.tolist() == [1.0, -1.0, 1.0]
    assert infos["is_correct"].tolist() == [True, False, True]
    assert terminated.all()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_of_an_environment_goes_its_own_way(duplicate: Callable[[Any], Any]) -> None:
    env = gymnasium.make("test_base/Reverse-v0").unwrapped
    env.reset(seed=1)
    twin = duplicate(env)
    assert twin.step("x")[1] == -1.0
    assert env.step(env.problem(1).answer)[1] == 1.0


def test_what_step_says_can_be_written_as_json() -> None:
    assert (
        json.loads(json.dumps(step(Verdict(is_correct=True, prediction="a"))[4]))["is_correct"]
        is True
    )
