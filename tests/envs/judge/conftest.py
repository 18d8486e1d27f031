"""A planted server, and environments that ask it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.envs.adapters.reward_function import RewardFunctionEnv
from tests.envs.judge.planted_server import TEMPLATE, PlantedServer

MakeEnv = Callable[..., RewardFunctionEnv]


@pytest.fixture
def server() -> Iterator[PlantedServer]:
    planted = PlantedServer()
    yield planted
    planted.close()


@pytest.fixture
def make_env(tmp_path: Path, server: PlantedServer) -> Iterator[MakeEnv]:
    """Makes environments of one problem: `make_env(judge={...}, reward={...}, ...)`."""
    path = tmp_path / "prompts.jsonl"
    row = {"prompt": "What?", "answer": "that", "rubric": "be {kind}", "meta": {"by": ["me", 1]}}
    path.write_text(json.dumps(row) + "\n")
    made: list[RewardFunctionEnv] = []

    def make(judge: dict[str, Any] | None = None, **settings: Any) -> RewardFunctionEnv:
        asked = {
            "url": server.url,
            "model": "m",
            "template": TEMPLATE,
            "parser": "Score: (.*)",
            "retries": 1,
            **(judge or {}),
        }
        reward = {"judge": asked} | settings.pop("reward", {})
        if len(reward) > 1:
            reward["judge"] = {"judge": asked}
        made.append(RewardFunctionEnv({"path": str(path), "reward": reward, **settings}))
        return made[-1]

    yield make
    for env in made:
        env.close()


@pytest.fixture
def make_rated_env(make_env: MakeEnv, server: PlantedServer) -> MakeEnv:
    """The same with a reward model in place of the judge: `make_rated_env(template=..., ...)`."""

    def make(**reward_model: Any) -> RewardFunctionEnv:
        asked = {"url": server.url, "model": "m", "retries": 0, **reward_model}
        return make_env(reward={"judge": {"reward_model": asked}})

    return make


Outcomes = list[tuple[float, dict[str, Any]]]


@pytest.fixture
def judged() -> Callable[..., Outcomes]:
    """Has an environment score responses side by side."""

    def score(env: RewardFunctionEnv, *responses: str) -> Outcomes:
        tickets = [env.submit(0, response) for response in responses]
        return [env.collect(ticket) for ticket in tickets]

    return score
