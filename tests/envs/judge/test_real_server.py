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


def test_a_reward_model_behind_a_vllm_server_says_what_transformers_says(
    tmp_path: Path, raw_model: Path
) -> None:
    """One random classifier, behind HTTP and in this process, on conversations."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = str(tmp_path / "classifier")
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(raw_model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(
        raw_model, num_labels=1, pad_token_id=tokenizer.pad_token_id, dtype=torch.float32
    )
    torch.nn.init.normal_(model.score.weight, std=0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "1+1="}) + "\n")
    responses = [str(number) for number in range(100)]
    here = RewardFunctionEnv(path=str(path), reward={"classifier": folder})
    expected = [here.collect(here.submit(0, response))[0] for response in responses]
    options = ("--runner", "pooling", "--convert", "classify", "--dtype", "float32")
    with vllm_server(folder, *options, log=tmp_path / "server.log") as url:
        env = RewardFunctionEnv(
            path=str(path), reward={"reward_model": {"url": url, "model": "judge"}}
        )
        tickets = [env.submit(0, response) for response in responses]
        rewards = [env.collect(ticket)[0] for ticket in tickets]
        env.close()

    assert len(set(expected)) > 50
    assert rewards == pytest.approx(expected, abs=1e-3)
