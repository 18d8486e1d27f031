import copy
import math
import random
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rllib_dapo.envs.adapters.object_env import ObjectEnv


class Guess:
    """Knows nothing of Gymnasium: think of a number, say higher or lower."""

    def __init__(self, most: int = 100, answers: Any = None) -> None:
        self.most = most
        self.answers = answers
        self.closed = False

    def reset(self, seed: int) -> str:
        self.number = random.Random(seed).randrange(self.most)
        return f"A number under {self.most}:"

    def step(self, text: str) -> Any:
        if self.answers is not None:
            return self.answers(text)
        guess = int(text)
        return (
            ("higher" if guess < self.number else "lower", 0.0, False)
            if guess != self.number
            else ("", 1.0, True)
        )

    def close(self) -> None:
        self.closed = True


def env_that_answers(answer: Any, **settings: Any) -> ObjectEnv:
    def answers(text: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    env = ObjectEnv(object=Guess, arguments={"answers": answers}, **settings)
    env.reset(seed=0)
    return env


def test_it_passes_gymnasiums_checks() -> None:
    env = gymnasium.make("rllib_dapo/Object-v0", object=Guess, arguments={"answers": len}).unwrapped
    check_env(env, skip_render_check=True)


def test_the_object_is_made_with_its_arguments_and_reset_with_the_seed() -> None:
    env = ObjectEnv({"object": Guess, "arguments": {"most": 5}})
    assert env.reset(seed=3) == (
        "A number under 5:",
        {"problem_id": "3", "max_turns": 1},
    )
    assert env._object.number == random.Random(3).randrange(5)


def test_an_object_can_be_given_by_the_name_of_its_class() -> None:
    env = ObjectEnv(
        {"object": "collections:Counter"} | {"object": "random:Random"} | {"object": Guess}
    )
    assert env.reset(seed=0)[0] == "A number under 100:"
    with pytest.raises(
        ValueError, match=r"^object='collections:Counter': a Counter has no reset\(\)$"
    ):
        ObjectEnv({"object": "collections:Counter"})


@pytest.mark.parametrize(
    ("answer", "reward", "is_correct"),
    [
        (0.5, 0.5, None),
        (2, 2.0, None),
        (np.float32(0.25), 0.25, None),
        (True, 1.0, True),
        (False, -1.0, False),
        (np.bool_(True), 1.0, True),
        (("", 0.5, True), 0.5, None),
        ((None, 0.5, True), 0.5, None),
        (("", True, True), 1.0, True),
        (("", 0.5, True, {"is_correct": False}), 0.5, False),
        (("", 0.5, False, True, {"is_correct": True}), 0.5, True),
        (("", 0.5, True, False, {}), 0.5, None),
    ],
)
def test_a_verdict_comes_in_many_shapes(
    answer: Any, reward: float, is_correct: bool | None
) -> None:
    _, given, terminated, truncated, info = env_that_answers(answer).step("x")
    assert (given, terminated, truncated) == (reward, True, False)
    assert info == ({} if is_correct is None else {"is_correct": is_correct})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (RuntimeError("boom"), "crash: the scorer raised RuntimeError: boom"),
        (
            None,
            "crash: the scorer raised TypeError: step must return a number (the reward), a bool",
        ),
        ("1", "crash: the scorer raised TypeError: step must return"),
        (("", 1.0), "crash: the scorer raised TypeError: step must return"),
        (math.nan, "crash: the reward is nan"),
        (math.inf, "crash: the reward is inf"),
        (("", "1", True), "crash: the reward is '1'"),
        (("", None, True), "crash: the episode ended without a reward"),
    ],
)
def test_what_is_no_verdict_is_missing_and_says_why(answer: Any, reason: str) -> None:
    _, reward, _, _, info = env_that_answers(answer).step("x")
    assert math.isnan(reward)
    assert info["is_correct"] is None
    assert info["missing_reason"].startswith(reason)


def test_a_reward_that_is_large_enough_is_a_success() -> None:
    assert env_that_answers(0.9, success_at=0.9).step("x")[4] == {"is_correct": True}
    assert env_that_answers(0.8, success_at=0.9).step("x")[4] == {"is_correct": False}


def test_an_episode_goes_on_until_the_object_or_the_limit_ends_it() -> None:
    env = ObjectEnv({"object": Guess, "max_turns": 3})
    env.reset(seed=1)
    number = env._object.number
    assert env.step(str(number - 1)) == ("higher", 0.0, False, False, {})
    assert env.step(str(number)) == ("", 1.0, True, False, {})
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("1")

    env.reset(seed=1)
    assert [env.step(str(number + 1))[2:4] for _ in range(3)] == [
        (False, False),
        (False, False),
        (False, True),
    ]
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("1")


def test_by_default_an_episode_is_one_response() -> None:
    env = ObjectEnv({"object": Guess})
    env.reset(seed=1)
    assert env.step("1000")[2:4] == (False, True)


def test_an_action_that_is_no_text_is_refused() -> None:
    with pytest.raises(gymnasium.error.InvalidAction, match="must be a str, not list"):
        env_that_answers(1.0).step([1])  # type: ignore[arg-type]


def test_the_object_is_closed_with_the_environment() -> None:
    env = ObjectEnv({"object": Guess})
    env.close()
    assert env._object.closed


def test_a_copy_goes_its_own_way() -> None:
    env = env_that_answers(True)
    twin = copy.deepcopy(env)
    assert twin.step("x")[1] == 1.0
    assert env.step("x")[1] == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"^object=None: must be package\.module:Class, or a class or function"),
        ({"object": "Guess"}, r"^object='Guess': must be written package\.module:name"),
        (
            {"object": "nowhere:Guess"},
            "^object='nowhere:Guess': module nowhere cannot be imported: ModuleNotFoundError",
        ),
        ({"object": "random:Guess"}, "^object='random:Guess': module random has no 'Guess'$"),
        ({"object": Guess, "arguments": [1]}, r"^arguments=\[1\]: must be a mapping"),
        ({"object": Guess, "max_turns": 0}, "^max_turns=0: must be at least 1"),
        ({"object": Guess, "success_at": "high"}, "^success_at='high': must be a number, or None"),
        ({"objekt": Guess}, "^ObjectEnv: unknown setting 'objekt' .*; did you mean 'object'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_one_line(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ObjectEnv(settings)
    assert "\n" not in str(caught.value)
