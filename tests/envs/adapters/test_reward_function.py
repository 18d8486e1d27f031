import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from rllib_dapo.envs.adapters.reward_function import RewardFunctionEnv


def words(prompt: str, response: str) -> float:
    return float(len(response.split()))


def hangs_on_stop(prompt: str, response: str) -> float:
    while response == "stop":
        time.sleep(0.01)
    return 1.0


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Say {i} words."}) + "\n" for i in range(50)))
    return str(path)


@pytest.fixture
def make(prompts: str) -> Callable[..., RewardFunctionEnv]:
    return lambda **settings: RewardFunctionEnv(
        {"path": prompts, "reward": words, "verify_in": "here"} | settings
    )


def test_it_passes_gymnasiums_checks(prompts: str) -> None:
    env = gymnasium.make(
        "rllib_dapo/RewardFunction-v0", path=prompts, reward=words, verify_in="here"
    )
    check_env(env.unwrapped)


def test_a_response_is_worth_what_the_function_says(make: Callable[..., RewardFunctionEnv]) -> None:
    env = make()
    prompt, info = env.reset(seed=3)
    assert prompt.startswith("Say ")
    assert info["answer"] == ""
    _, reward, terminated, _, info = env.step("one two three")
    assert (reward, terminated) == (3.0, True)
    assert info["reward_components"] == {"words": 3.0}
    assert "is_correct" not in info


def test_every_epoch_asks_every_prompt_once(make: Callable[..., RewardFunctionEnv]) -> None:
    env = make()
    first, second = ([env.reset(seed=s)[0] for s in range(50 * e, 50 * e + 50)] for e in (0, 1))
    assert len(set(first)) == 50
    assert sorted(first) == sorted(second)
    assert first != second


def test_components_stand_in_the_info_by_name(make: Callable[..., RewardFunctionEnv]) -> None:
    env = make(
        reward={"many": {"function": words, "weight": 0.5}, "polite": {"keywords": ["please"]}},
        success_at=2.0,
    )
    env.reset(seed=0)
    _, reward, _, _, info = env.step("yes please")
    assert reward == 2.0
    assert info["reward_components"] == {"many": 2.0, "polite": 1.0}
    assert info["is_correct"] is True


def test_a_function_that_raises_gives_no_verdict(make: Callable[..., RewardFunctionEnv]) -> None:
    env = make(reward=lambda prompt, response: 1 / len(response))
    env.reset(seed=0)
    _, reward, _, _, info = env.step("")
    assert math.isnan(reward)
    assert info["missing_reason"] == "crash: the scorer raised ZeroDivisionError: division by zero"


def test_a_function_that_hangs_is_stopped_and_the_next_one_is_not(prompts: str) -> None:
    env = RewardFunctionEnv({"path": prompts, "reward": hangs_on_stop, "verify_seconds": 3})
    assert env.needs_process
    env.reset(seed=0)
    _, reward, _, _, info = env.step("stop")
    assert math.isnan(reward)
    assert info["missing_reason"].startswith("timeout: ")
    env.reset(seed=1)
    assert env.step("go")[1] == 1.0
    env.close()


def test_splits_weights_columns_and_templates_are_those_of_data_files(tmp_path: Path) -> None:
    for name, count in (("few", 10), ("many", 100)):
        rows = ({"text": f"{name} {i}", "truth": str(i)} for i in range(count))
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    settings = {
        "path": [str(tmp_path / "few.jsonl"), str(tmp_path / "many.jsonl")],
        "reward": {"right": {"rule": "last_number"}},
        "columns": {"question": "text", "answer": "truth"},
        "weights": [1, 1],
        "template": "<{problem}>",
        "split": "train",
    }
    env = RewardFunctionEnv(settings)

    texts = [env.reset(seed=seed)[0] for seed in range(40)]
    assert sum(text.startswith("<few ") for text in texts) == 20
    assert not {p.prompt for p in env.problems} & {
        p.prompt for p in RewardFunctionEnv(settings | {"split": "heldout"}).problems
    }
    _, info = env.reset(seed=0)
    assert env.step(info["answer"])[4]["is_correct"] is True


def test_prompts_that_must_not_be_shared_are_refused(tmp_path: Path, prompts: str) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"prompt": "Sing."}\n{"prompt": "say  7 WORDS."}\n')
    message = (
        r"^1 of 2 held-out problems are also trained on, such as other/1 \('say 7 WORDS\.'\): "
        r"change path or disjoint_"
    )
    with pytest.raises(ValueError, match=message):
        RewardFunctionEnv(path=prompts, reward=words, disjoint_from=str(other))
    other.write_text('{"prompt": "Sing."}\n')
    RewardFunctionEnv(path=prompts, reward=words, disjoint_from=str(other))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": None}, "^path=None: must be a "),
        ({"reward": None}, "^reward=None: must be a function"),
        ({"split": "heldout", "heldout_fraction": 0}, "^split='heldout': no prompt is left of 50"),
        (
            {"max_prompt_characters": 3},
            r"no problem in it \(0 rows .*, 50 prompts of more than 3 characters\)",
        ),
        (
            {"weights": [1, 2]},
            r"^weights=\[1, 2\]: must be a list of positive numbers, one for each of the 1 entries",
        ),
        ({"limit": 0}, "^limit=0: must be at least 1"),
        (
            {"rewards": words},
            "^RewardFunctionEnv: unknown setting 'rewards' .*; did you mean 'reward'",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    make: Callable[..., RewardFunctionEnv], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make(**settings)
    assert "\n" not in str(caught.value)
