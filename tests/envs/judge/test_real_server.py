"""A judge that is a real vLLM server, and one that dies in the middle."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.vllm_server import vllm_server
from rllib_dapo.envs.adapters.reward_function import RewardFunctionEnv
from rllib_dapo.models import resolve_model

pytestmark = pytest.mark.exhaustive  # starting a server takes most of a minute


def test_a_vllm_server_judges_a_thousand_responses_and_its_end_costs_what_is_asked_after(
    tmp_path: Path,
) -> None:
    """The tiny model can add: a response is a sum, and its reward what the model makes of it."""
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "Write a sum."}) + "\n")
    sums = [(a, b) for a in range(10, 50) for b in range(10, 35)]

    model = str(resolve_model("tiny"))
    with vllm_server(model, "--dtype", "float32", log=tmp_path / "server.log") as url:
        judge = {
            **{"url": url, "model": "judge", "template": "{response}", "parser": r"^\s*(\d+)"},
            **{"max_tokens": 8, "retries": 0, "cache_entries": 0},
        }
        env = RewardFunctionEnv(path=str(path), reward={"judge": judge})
        tickets = [env.submit(0, f"{a}+{b}=") for a, b in sums]
        rewards = [env.collect(ticket)[0] for ticket in tickets]

    assert len(rewards) == 1_000
    assert not any(map(math.isnan, rewards))
    # the model is not always right, but a mixed-up order would be nearly always wrong
    assert sum(r == a + b for r, (a, b) in zip(rewards, sums, strict=True)) > 500

    tickets = [env.submit(0, f"{a}+{b}=") for a, b in sums[:20]]
    outcomes = [env.collect(ticket) for ticket in tickets]
    env.close()
    assert all(math.isnan(reward) for reward, _ in outcomes)
    causes = Counter(info["missing_reason"].partition(":")[0] for _, info in outcomes)
    assert causes == {"unreachable": 20}
