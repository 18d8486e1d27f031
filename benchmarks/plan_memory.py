"""Peak memory of a Learner and of an engine, against what `rllib-dapo plan` says before.

Three models in float32 on CPUs: the built-in tiny one, a Llama of 32M random parameters, and
SmolLM2-135M. Each figure comes from a process of its own: the highest resident size after two
updates of made-up tokens (or after a batch of responses), less the size before the model was made.

    python benchmarks/plan_memory.py                 # all, and results/plan_memory.json
    python benchmarks/plan_memory.py engine          # one side; the others stay as they were
    python benchmarks/plan_memory.py learner tiny    # one figure, as JSON
"""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rllib_dapo import DAPOConfig

MODELS = ("smollm2-135m", "random-32m", "tiny")
SIDES = ("learner", "engine", "learner, checkpointing")
PROMPT_TOKENS, RESPONSE_TOKENS, GROUP_SIZE, LIMIT = 64, 192, 8, 0.2
MIB = 2**20


def model_folder(name: str, folder: Path) -> str:
    """The model's name, or the folder in which one of random weights was made."""
    if name != "random-32m":
        return name

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from rllib_dapo.models.tiny import make_tokenizer

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16_384,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return str(folder)


def make_config(model: str, *, checkpointing: bool) -> DAPOConfig:
    """Eight rows a micro-batch, four micro-batches an update, all in this process."""
    from rllib_dapo import DAPOConfig

    return (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0")
        .language_model(model, dtype="float32", gradient_checkpointing=checkpointing, num_threads=1)
        .rollout(
            max_prompt_tokens=PROMPT_TOKENS,
            max_response_tokens=RESPONSE_TOKENS,
            max_concurrent_responses=16,
            cpu_kv_cache_gib=0.25,
        )
        .training(
            prompts_per_step=4,
            group_size=GROUP_SIZE,
            minibatch_size=4 * GROUP_SIZE,
            max_tokens_per_microbatch=8 * (PROMPT_TOKENS + RESPONSE_TOKENS),
            max_shared_row_tokens=0,  # as the made-up tokens are laid out below
        )
        .overlong(buffer_tokens=0)
        .env_runners(num_env_runners=0)
        .learners(num_learners=0)
    )


def measure(side: str, name: str) -> dict[str, float]:
    """Measures in this process: peak over the size before the model, and what was planned."""
    from rllib_dapo.capacity.hardware import Hardware
    from rllib_dapo.capacity.model_shape import model_shape
    from rllib_dapo.capacity.run_plan import make_plan

    with tempfile.TemporaryDirectory() as folder:
        model = model_folder(name, Path(folder))
        config = make_config(model, checkpointing="checkpointing" in side)
        shape = model_shape(model)
        plan = make_plan(config, shape, Hardware(name="here"), response_tokens=RESPONSE_TOKENS)
        peak = measure_engine(config) if side == "engine" else measure_learner(config)
    planned = plan.engine.total if side == "engine" else plan.learner.total
    return {"peak_mib": peak / MIB, "planned_mib": planned / MIB, "parameters": shape.parameters}


def measure_learner(config: DAPOConfig) -> float:
    """Bytes that two updates add to a process that has trained another model a little before."""
    small = make_config("tiny", checkpointing=config.gradient_checkpointing)
    train(small.training(prompts_per_step=1, group_size=2), response_tokens=8)
    gc.collect()

    before = reset_peak()
    train(config, response_tokens=RESPONSE_TOKENS)
    return peak_bytes() - before


def train(config: DAPOConfig, *, response_tokens: int) -> None:
    """Two updates of a Learner in this process, with made-up tokens."""
    update = made_up_update(config, response_tokens=response_tokens)
    for _ in range(2):
        update()


def made_up_update(config: DAPOConfig, *, response_tokens: int) -> Callable[[], None]:
    """Builds a Learner in this process; each call of the result is an update with other tokens."""
    import numpy as np
    from ray.rllib.core import DEFAULT_MODULE_ID

    from rllib_dapo.core import TrainResponse, plan_minibatch
    from rllib_dapo.core.types import GroupTokens, ResponseTokens
    from rllib_dapo.envs import TextSpace
    from rllib_dapo.learner.training_data import GroupTrainingData

    spaces = (TextSpace(100), TextSpace(100))
    learners = config.build_learner_group(spaces={DEFAULT_MODULE_ID: spaces})
    generator = np.random.default_rng(0)

    def tokens(count: int) -> np.ndarray:
        return generator.integers(3, 20, count).astype(np.int32)

    def response() -> ResponseTokens:
        return ResponseTokens(
            token_ids=tokens(response_tokens),
            logprobs=np.full(response_tokens, -3.0, dtype=np.float32),
            loss_mask=np.ones(response_tokens, dtype=bool),
        )

    def update() -> None:
        groups = {
            index: GroupTokens(
                prompt_ids=tokens(PROMPT_TOKENS),
                responses={i: response() for i in range(config.group_size)},
            )
            for index in range(config.prompts_per_step)
        }
        responses = [
            TrainResponse(
                group=index,
                index=i,
                prompt_tokens=PROMPT_TOKENS,
                response_tokens=response_tokens,
                loss_tokens=response_tokens,
                advantage=1.0 if i % 2 else -1.0,
                reward=1.0 if i % 2 else -1.0,
            )
            for index in groups
            for i in range(config.group_size)
        ]
        plan = plan_minibatch(
            responses,
            loss_aggregation=config.loss_aggregation,
            max_response_tokens=response_tokens,
            max_tokens_per_microbatch=config.max_tokens_per_microbatch,
        )
        learners.update(
            training_data=GroupTrainingData(groups=groups, shards=[[plan[0]]]),
            timesteps={"num_env_steps_sampled_lifetime": 0},
        )

    return update


def measure_engine(config: DAPOConfig) -> float:
    """Bytes that an engine and a batch of responses add to a process that has loaded vLLM."""
    from rllib_dapo.rollout import vllm_engine  # noqa: F401  (loads vLLM)
    from rllib_dapo.rollout.env_runner import TextEnvRunner

    before = reset_peak()
    runner = TextEnvRunner(config=config, worker_index=0)
    runner.sample_groups(range(4))
    peak = peak_bytes() - before
    runner.stop()
    return peak


def reset_peak() -> float:
    """Forgets the highest resident size so far (Linux), and returns today's, in bytes."""
    import psutil

    Path("/proc/self/clear_refs").write_text("5")
    return float(psutil.Process().memory_info().rss)


def peak_bytes() -> float:
    """The highest resident size since `reset_peak`, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) * 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


def in_a_process(side: str, name: str) -> dict[str, float]:
    """Calls `measure` in a new process: the peak of a child starts at the size of its parent."""
    command = [sys.executable, str(Path(__file__).resolve()), side, name]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def main(*sides: str) -> None:
    """Measures every model on some sides, and compares with the plan.

    Args:
        *sides: Some of `SIDES`. Figures of others are taken from the file of results.
    """
    from common import RESULTS, machine

    file = RESULTS / "plan_memory.json"
    before = json.loads(file.read_text())["rows"] if set(sides) != set(SIDES) else []
    rows: list[dict[str, Any]] = [row for row in before if row["side"] not in sides]
    for side in sides:
        for name in MODELS:
            row = {"model": name, "side": side, **in_a_process(side, name)}
            row["ratio"] = row["planned_mib"] / row["peak_mib"]
            rows.append(row)
            print(
                f"{name}, {side}: planned {row['planned_mib']:.0f} MiB, measured "
                f"{row['peak_mib']:.0f} MiB, ratio {row['ratio']:.2f}",
                flush=True,
            )

            # After each figure, so that a benchmark that is cut off leaves those that it has.
            rows.sort(key=lambda row: SIDES.index(row["side"]))
            holds = all(abs(row["ratio"] - 1) <= LIMIT for row in rows)
            record = {
                "name": "plan_memory",
                "limit": LIMIT,
                "holds": holds,
                "rows": rows,
                "machine": machine(),
            }
            file.write_text(json.dumps(record, indent=2) + "\n")

    print(f"plan_memory: within {LIMIT:.0%}: {'holds' if holds else 'MISSED'}")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(measure(sys.argv[1], sys.argv[2])))
    else:
        main(*(sys.argv[1:] or SIDES))
