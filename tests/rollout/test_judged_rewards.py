"""A judge that is limited, down and talks nonsense, in an EnvRunner and in a training."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.metrics.rollout_metrics import verdict_metrics
from rllib_dapo.rollout.env_runner import TextEnvRunner
from tests.envs.judge.planted_server import TEMPLATE, PlantedServer

MakeConfig = Callable[..., DAPOConfig]
CAUSES = {
    "limited": "missing_rate_limited",
    "broken": "missing_unreachable",
    "cut": "missing_unreachable",
    "slow": "missing_timeout",
    "chatter": "missing_unreadable",
    "garbage": "missing_unreadable",
}


def planted(response: str) -> str:
    """Half of all responses get a fault, which a response's text decides on."""
    number = sum(map(ord, response))
    return [*CAUSES, *(f"score {n}" for n in range(6))][number % 12]


@pytest.fixture
def server() -> Iterator[PlantedServer]:
    judge = PlantedServer()
    judge.kind_of = planted
    yield judge
    judge.close()


@pytest.fixture
def judged_config(
    rollout_config: MakeConfig, tmp_path: Path, server: PlantedServer
) -> Callable[[], Any]:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n}+0="}) + "\n" for n in range(8)))
    judge = {
        **{"url": server.url, "model": "m", "template": TEMPLATE, "parser": "Score: (.*)"},
        **{"retries": 0, "timeout": 2.0, "cache_entries": 0},
    }
    return lambda: rollout_config(
        "rllib_dapo/RewardFunction-v0", path=str(path), reward={"judge": judge}
    )


def counts(judged: Counter[str]) -> Counter[str]:
    """How many responses are without a verdict, by cause, going by what the server was asked."""
    found: Counter[str] = Counter()
    for response, number in judged.items():
        if (cause := CAUSES.get(planted(response))) is not None:
            found[cause] += number
    return found


def test_every_response_has_its_verdict_or_its_cause(
    judged_config: Callable[[], Any], server: PlantedServer
) -> None:
    runner = TextEnvRunner(config=judged_config())
    try:
        sampled = [one.group() for one in runner.sample_groups(range(8)).groups]
    finally:
        runner.stop()

    responses = [response for group in sampled for response in group.responses]
    assert len(responses) == 32
    assert server.asked == Counter(response.text for response in responses)
    for response in responses:
        kind, _, score = planted(response.text).partition(" ")
        assert math.isnan(response.reward) if kind in CAUSES else response.reward == float(score)

    figures = verdict_metrics([group.summary() for group in sampled])
    expected = counts(server.asked)
    assert expected.total() > 5
    assert {cause: figures[cause] for cause in expected} == expected
    assert figures["missing_reward_fraction"] == expected.total() / 32


@pytest.mark.exhaustive
def test_training_goes_on_beside_a_judge_that_fails_half_of_the_time(
    judged_config: Callable[[], Any], server: PlantedServer, cluster: None
) -> None:
    config = judged_config().training(prompts_per_step=4, group_size=8)
    algo = config.dynamic_sampling(enabled=False).build_algo()
    found: Counter[str] = Counter()
    updates = 0
    try:
        for _ in range(3):
            result, before = algo.train(), updates
            updates = result["learners"]["default_policy"]["num_gradient_updates_lifetime"]
            assert updates > before
            found.update({c: int(result["env_runners"][c]) for c in set(CAUSES.values())})
    finally:
        algo.stop()
    assert +found == counts(server.asked)
    assert server.asked.total() == 3 * 32
