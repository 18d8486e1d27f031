"""What an adapter saves: parameters trained, bytes to the engine and on disk, and a second model.

    python benchmarks/lora.py            # SmolLM2-135M; writes benchmarks/results/lora.json

Both sides are the same Learner, with and without `language_model.lora`. Memory is the peak of a
process of its own that takes one update with a KL term: with an adapter the reference is the policy
with its adapter off, without one it is a second model.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup, Response, TrainResponse, plan_minibatch
from rllib_dapo.envs import TextSpace
from rllib_dapo.learner.training_data import GroupTrainingData

PROMPT, RESPONSE, GROUPS, SIZE = 32, 32, 1, 2
SIDES = {
    "adapter": {"lora": True, "kl": 0.01},
    "adapter, no reference": {"lora": True, "kl": 0.0},
    "whole model": {"lora": False, "kl": 0.01},
    "whole model, no reference": {"lora": False, "kl": 0.0},
}


def learner_group(model: str, rank: int, dtype: str, *, lora: bool, kl: float) -> Any:
    """A Learner in this process."""
    config = (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0")
        .language_model(model, dtype=dtype, num_threads=2, lora={"rank": rank} if lora else None)
        .rollout(engine="transformers", max_prompt_tokens=PROMPT, max_response_tokens=RESPONSE)
        .training(
            lr=1e-5,
            warmup_steps=0,
            prompts_per_step=GROUPS,
            group_size=SIZE,
            minibatch_size=GROUPS * SIZE,
            max_tokens_per_microbatch=PROMPT + RESPONSE,
        )
        .kl(coefficient=kl)
        .overlong(buffer_tokens=4)
        .env_runners(num_env_runners=0)
    )
    config.validate()
    spaces = {DEFAULT_MODULE_ID: (TextSpace(100), TextSpace(100))}
    return config.build_learner_group(spaces=spaces)


def training_data() -> GroupTrainingData:
    """Random tokens: what they say does not matter here."""
    rng = np.random.default_rng(0)

    def tokens(count: int) -> np.ndarray:
        return rng.integers(3, 1000, size=count, dtype=np.int32)

    def response() -> Response:
        return Response(
            token_ids=tokens(RESPONSE),
            loss_mask=np.ones(RESPONSE, dtype=bool),
            logprobs=np.full(RESPONSE, -5.0, dtype=np.float32),
            finish_reason="stop",
            reward=0.0,
            is_correct=None,
            text="",
        )

    groups = {
        seed: PromptGroup(
            seed=seed,
            prompt="",
            prompt_ids=tokens(PROMPT),
            responses=tuple(response() for _ in range(SIZE)),
            weights_version=0,
        )
        for seed in range(GROUPS)
    }
    responses = [
        TrainResponse(
            group=seed,
            index=index,
            prompt_tokens=PROMPT,
            response_tokens=RESPONSE,
            loss_tokens=RESPONSE,
            advantage=1.0 if index % 2 else -1.0,
            reward=0.0,
        )
        for seed in groups
        for index in range(SIZE)
    ]
    plans = plan_minibatch(
        responses,
        loss_aggregation="token_mean",
        max_response_tokens=RESPONSE,
        max_tokens_per_microbatch=PROMPT + RESPONSE,
        num_shards=1,
    )
    return GroupTrainingData(groups=groups, shards=[(plan,) for plan in plans])


def measure(model: str, rank: int, dtype: str, *, lora: bool, kl: float) -> dict[str, float]:
    """One side, in this process."""
    group = learner_group(model, rank, dtype, lora=lora, kl=kl)
    learner = group._learner
    group.update(training_data=training_data(), timesteps={"num_env_steps_sampled_lifetime": 0})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    module = learner.policy_module
    width = module.settings.dtype.itemsize
    sent = module.whole_weights() if module.adapter is None else module.adapter.weights()
    with tempfile.TemporaryDirectory() as folder:
        module.save_to_path(Path(folder, "module"))
        torch.save(learner.training_state(Path(folder)), Path(folder, "state.pt"))
        files = [*Path(folder).rglob("*.safetensors"), Path(folder, "state.pt")]
        kept = sum(file.stat().st_size for file in files)
    params = [p for group in learner.step_optimizer.param_groups for p in group["params"]]
    return {
        "parameters": sum(p.numel() for p in params),
        "bytes_to_engine": sum(tensor.numel() * width for _, tensor in sent),
        "bytes_of_checkpoint": kept,
        "peak_bytes": peak,
    }


def main() -> None:
    """Measures every side in a process of its own, and writes the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--side", choices=SIDES)
    asked = parser.parse_args()
    if asked.side:
        print(json.dumps(measure(asked.model, asked.rank, asked.dtype, **SIDES[asked.side])))
        return

    found: dict[str, dict[str, float]] = {}
    for side in SIDES:
        command = [sys.executable, __file__, "--model", asked.model, "--rank", str(asked.rank)]
        command += ["--dtype", asked.dtype]
        done = subprocess.run(
            [*command, "--side", side], check=True, capture_output=True, text=True
        )
        found[side] = json.loads(done.stdout.splitlines()[-1])
        print(side, found[side], flush=True)

    adapter, whole = found["adapter"], found["whole model"]
    shares = {
        name: adapter[name] / whole[name]
        for name in ("parameters", "bytes_to_engine", "bytes_of_checkpoint", "peak_bytes")
    }
    of_reference = {
        kind: found[kind]["peak_bytes"] - found[f"{kind}, no reference"]["peak_bytes"]
        for kind in ("adapter", "whole model")
    }
    record = {
        "model": asked.model,
        "rank": asked.rank,
        "dtype": asked.dtype,
        "sides": found,
        "shares_of_whole": shares,
        "peak_bytes_of_the_reference": of_reference,
        "machine": common.machine(),
    }
    (common.RESULTS / "lora.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps({"shares": shares, "reference": of_reference}, indent=2))


if __name__ == "__main__":
    main()
