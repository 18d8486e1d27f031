"""What a Learner saves without a value model: memory, time and variance of PPO, GRPO and DAPO.

GRPO is said to take 40 to 60 % less memory than PPO, 35 % less time, and to have 60 % less variance
of the gradient. PPO is measured in two forms: with this package's value head on the policy, and
with a value model of its own, for which a second Learner stands, which trains on the same tokens.
That one also computes words' logits, so its time is an upper bound.

- Memory and time: three models in float32, real Learners in a process of their own for each figure,
  made-up tokens; the highest resident size over that before, and the median update.
- Variance: the study's warmed-up model (`study_tasks.py`) on written-out sums, real responses, one
  gradient from each batch, while the policy stands still: the variance of the gradient over the
  square of its mean, and its square root's change over PPO. PPO's critic learns beforehand.

    python benchmarks/claims.py                     # all that is not there yet
    python benchmarks/claims.py cost dapo tiny      # one figure, as JSON
    python benchmarks/claims.py variance dapo sums
"""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plan_memory import MIB, made_up_update, make_config, model_folder, peak_bytes, reset_peak

if TYPE_CHECKING:
    from rllib_dapo import DAPO, DAPOConfig

MODELS = ("tiny", "random-32m", "smollm2-135m")
# PPO with a value head, PPO with a value model of its own, and those without.
SIDES = ("ppo", "ppo_two_models", "grpo", "dapo")
WITHOUT = ("grpo", "dapo")
RESPONSE_TOKENS = 192
UPDATES = {"tiny": 10, "random-32m": 5, "smollm2-135m": 2}  # measured, after one that is not
TASK, WARM_UP, BATCHES = "sums", 20, 40
# What is claimed of GRPO over PPO, as shares that are saved.
CLAIMED = {"memory": 0.4, "time": 0.35, "variance": 0.6}


def cost_config(side: str, model: str) -> DAPOConfig:
    """The Learner of `plan_memory.py`, with a side's objective and no KL reference.

    An update is one micro-batch, which is what memory depends on.
    """
    config = make_config(model, checkpointing=False)
    config.training(prompts_per_step=1, minibatch_size=config.group_size)
    if side == "grpo":
        return config.grpo().kl(coefficient=0.0)
    return config if side == "dapo" else config.ppo()


def cost(side: str, name: str) -> dict[str, float]:
    """Peak memory and seconds of an update, measured in this process."""
    with tempfile.TemporaryDirectory() as folder:
        model = model_folder(name, Path(folder))
        # What a first Learner of a process takes once is not counted.
        made_up_update(cost_config(side, "tiny"), response_tokens=8)()
        gc.collect()

        before = reset_peak()
        updates = [made_up_update(cost_config(side, model), response_tokens=RESPONSE_TOKENS)]
        if side == "ppo_two_models":
            second = cost_config("grpo", model)
            updates.append(made_up_update(second, response_tokens=RESPONSE_TOKENS))
        seconds = []
        for _ in range(UPDATES[name] + 1):
            started = time.perf_counter()
            for update in updates:
                update()
            seconds.append(time.perf_counter() - started)
    return {
        "peak_mib": (peak_bytes() - before) / MIB,
        "seconds": statistics.median(seconds[1:]),
    }


def variance(side: str, task: str) -> dict[str, float]:
    """The gradient's variance over the square of its mean, the policy standing still."""
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    algorithm = variance_config(side, task).build_algo()
    # The critic learns what it can; the policy's rate moves nothing.
    for _ in range(WARM_UP if side == "ppo" else 0):
        algorithm.train()
    figures = gradient_noise(algorithm, BATCHES)
    algorithm.stop()
    ray.shutdown()
    return figures


def variance_config(side: str, task: str) -> DAPOConfig:
    """The study's configuration of an arm, with one mini-batch a step and a policy at rest."""
    from sample_efficiency import PROTOCOL
    from study_runs import RunKey
    from study_training import make_config as make_study_config

    run = RunKey(task=task, arm=side, lr=1e-12, seed=0)
    config = make_study_config(run, PROTOCOL).copy(copy_frozen=False)
    config.training(minibatch_size=config.prompts_per_step * config.group_size, grad_clip=None)
    config.evaluation(evaluation_interval=0, evaluate_before_training=False)
    if side == "ppo":
        # AdamW's steps do not depend on this factor; the policy's gradient is then its own alone.
        config.critic(value_loss_coefficient=1e-3)
    return config


def gradient_noise(algorithm: DAPO, batches: int) -> dict[str, float]:
    """Trains on some batches, and looks at the gradient of each before the optimizer's step.

    Args:
        algorithm: With a Learner in this process.
        batches: Number of training steps of one mini-batch.
    """
    import torch
    from ray.rllib.core import DEFAULT_MODULE_ID

    learner = algorithm.learner_group._learner
    policy = list(learner.module[DEFAULT_MODULE_ID].unwrapped().lm.parameters())
    gradients: list[torch.Tensor] = []

    def keep(*_: Any) -> None:
        parts = [p.grad.flatten() for p in policy if p.grad is not None]
        gradients.append(torch.cat(parts).double())

    handle = learner.step_optimizer.register_step_pre_hook(keep)
    tokens = 0.0
    for _ in range(batches):
        result = algorithm.train()["env_runners"]
        tokens += result["tokens_per_accepted_group"] * max(1, result["groups_accepted"])
    handle.remove()

    stacked = torch.stack(gradients)
    return {
        **noise(stacked.norm(dim=1).square().mean(), stacked.mean(0), len(stacked)),
        "tokens_a_batch": tokens / batches,
    }


def noise(mean_square: Any, mean: Any, count: int) -> dict[str, float]:
    """Unbiased variance of some gradients, and its ratio to the square of their mean.

    Args:
        mean_square: Mean of their squared norms.
        mean: Their mean.
        count: How many there are.
    """
    square_of_mean = float(mean.square().sum())
    spread = (float(mean_square) - square_of_mean) * count / (count - 1)
    # The mean of some gradients is itself off by a part of their variance.
    signal = square_of_mean - spread / count
    return {"variance": spread, "signal": signal, "noise_to_signal": spread / signal}


def in_a_process(*words: str) -> dict[str, float]:
    """Measures in a new process: the peak of a child starts at the size of its parent."""
    command = [sys.executable, str(Path(__file__).resolve()), *words]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def saved(rows: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What GRPO and DAPO save over each form of PPO, and whether it is what is claimed.

    Args:
        rows: A row for each side and model, with `peak_mib` and `seconds`, or `noise_to_signal`.
    """
    figures = {"memory": "peak_mib", "time": "seconds", "variance": "noise_to_signal"}
    found = []
    for what, key in figures.items():
        measured = {(r["side"], r["model"]): r[key] for r in rows if key in r}
        for model in dict.fromkeys(model for _, model in measured):
            for side in WITHOUT:
                for base in ("ppo", "ppo_two_models"):
                    if (side, model) not in measured or (base, model) not in measured:
                        continue
                    share = 1 - measured[side, model] / measured[base, model]
                    found.append(
                        {
                            "what": what,
                            "model": model,
                            "side": side,
                            "against": base,
                            "saved": round(share, 4),
                            "claimed": CLAIMED[what],
                            "holds": share >= CLAIMED[what],
                        }
                    )
    return found


def main() -> None:
    """Measures what is not there yet, and writes after each figure."""
    from common import RESULTS, machine

    file = RESULTS / "claims.json"
    rows = json.loads(file.read_text())["rows"] if file.is_file() else []
    there = {(row["kind"], row["side"], row["model"]) for row in rows}
    wanted = [("cost", side, model) for model in MODELS for side in SIDES]
    wanted += [("variance", side, TASK) for side in ("ppo", *WITHOUT)]
    for words in wanted:
        if words in there:
            continue
        kind, side, model = words
        rows.append({"kind": kind, "side": side, "model": model, **in_a_process(*words)})
        print(rows[-1], flush=True)
        record = {
            "name": "claims",
            "measured": len(rows),
            "planned": len(wanted),
            "rows": rows,
            "saved": saved(rows),
            "machine": machine(),
        }
        RESULTS.mkdir(exist_ok=True)
        file.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        kind, side, model = sys.argv[1:]
        print(json.dumps({"cost": cost, "variance": variance}[kind](side, model)))
    else:
        main()
