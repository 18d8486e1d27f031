"""One whole training step, against TRL's `GRPOTrainer(loss_type="dapo")` (extra `bench`).

Both have the same prompts and sizes: 8 prompts x 8 responses x at most 128 new tokens,
SmolLM2-135M, one optimizer step, on the CPU in bfloat16. A step is sampling, scoring, update and,
on our side, the transfer of the weights to the engine. Sampling is random, so response lengths
differ a little between the sides; both are reported, and where the time goes: sampling is what TRL
calls generation with its scoring, and on our side the metrics `seconds/...`.

    python benchmarks/step_vs_trl.py [--long-prompts]

`--long-prompts` puts a worked example in front of each problem, so that a prompt has about 256
tokens; the figures go to a file of their own.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import ray
from common import Side, report, timed
from datasets import Dataset
from training_step import MAX_TOKENS, PROMPTS, RESPONSES, step_config
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.models import load_causal_lm, load_tokenizer, resolve_model
from rllib_dapo.rollout.make_environment import make_environment

ROUNDS = 2
SHORT_TARGET, LONG_TARGET = 7.5, 9.0


def trl_trainer(config: DAPOConfig, folder: str, callback: TrainerCallback) -> GRPOTrainer:
    """The other side, with the same prompts in the same order and the same rewards."""
    env = make_environment(config.env, config.env_config)
    # TRL needs the prompts of all steps, the warm-up among them.
    prompts = [env.reset(seed=seed)[0] for seed in range(PROMPTS * (ROUNDS + 1))]
    rows = [
        {"prompt": [{"role": "user", "content": p}], "seed": seed} for seed, p in enumerate(prompts)
    ]

    def reward(completions: list[list[dict[str, str]]], seed: list[int], **_: Any) -> list[float]:
        rewards = []
        for completion, s in zip(completions, seed, strict=True):
            env.reset(seed=s)
            rewards.append(float(env.step(completion[0]["content"])[1]))
        return rewards

    name = resolve_model(config.model_name)
    return GRPOTrainer(
        model=load_causal_lm(name, dtype="float32"),
        processing_class=load_tokenizer(name),
        reward_funcs=reward,
        train_dataset=Dataset.from_list(rows),
        callbacks=[callback],
        args=GRPOConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=True,
            loss_type="dapo",
            beta=0.0,
            epsilon=0.2,
            epsilon_high=0.28,
            temperature=1.0,
            num_generations=RESPONSES,
            per_device_train_batch_size=PROMPTS * RESPONSES // 4,
            gradient_accumulation_steps=4,
            max_completion_length=MAX_TOKENS,
            learning_rate=1e-6,
            max_steps=ROUNDS + 1,
            shuffle_dataset=False,
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
    )


class Alternate(TrainerCallback):
    """Times TRL's steps, and runs one of ours after each."""

    def __init__(self, algo: DAPO) -> None:
        """Begins without any step.

        Args:
            algo: Our side.
        """
        self._algo = algo
        self.ours: list[float] = []
        self.trl: list[float] = []
        self.our_lengths: list[float] = []
        self.our_parts: list[dict[str, float]] = []
        self.trl_sampling: list[float] = []
        self._started = 0.0

    def watch_sampling(self, trainer: GRPOTrainer) -> None:
        """Times what TRL does before the update of a step: generation, rewards, scoring."""
        generate = trainer._generate_and_score_completions

        def timed_generate(inputs: Any) -> Any:
            seconds, made = timed(lambda: generate(inputs))
            self.trl_sampling.append(seconds)
            return made

        trainer._generate_and_score_completions = timed_generate

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """A step of TRL begins, with its sampling."""
        self._started = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """A step of TRL has ended; one of ours follows."""
        self.trl.append(time.perf_counter() - self._started)
        seconds, result = timed(self._algo.train)
        self.ours.append(seconds)
        self.our_lengths.append(result["env_runners"]["response_length_mean"])
        self.our_parts.append({k: round(float(v), 2) for k, v in result["seconds"].items()})
        step = f"step {len(self.ours) - 1} of {ROUNDS}"
        print(f"{step}: ours {seconds:.1f} s, TRL {self.trl[-1]:.1f} s", flush=True)


def main() -> None:
    """Runs both sides in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--long-prompts", action="store_true")
    long_prompts = parser.parse_args().long_prompts

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    config = step_config(long_prompts=long_prompts)
    algo = config.build_algo()
    callback = Alternate(algo)

    with tempfile.TemporaryDirectory() as folder:
        trainer = trl_trainer(config, folder, callback)
        callback.watch_sampling(trainer)
        trainer.train()
    lengths = [
        log["completions/mean_length"]
        for log in trainer.state.log_history
        if "completions/mean_length" in log
    ]
    algo.stop()
    ray.shutdown()

    report(
        "step_vs_trl_long" if long_prompts else "step_vs_trl",
        ours=Side(label="rllib-dapo", unit="s", values=callback.ours[1:]),
        other=Side(label="TRL GRPOTrainer", unit="s", values=callback.trl[1:]),
        target=LONG_TARGET if long_prompts else SHORT_TARGET,
        higher_is_better=False,
        model="SmolLM2-135M, bfloat16",
        prompts=PROMPTS,
        responses=RESPONSES,
        max_tokens=MAX_TOKENS,
        parts={
            "ours": callback.our_parts[1:],
            "trl": {
                "sampling": [round(seconds, 2) for seconds in callback.trl_sampling[1:]],
                "step": round(statistics.median(callback.trl[1:]), 2),
            },
        },
        mean_response_length={"ours": callback.our_lengths[1:], "trl": lengths[1:]},
    )


if __name__ == "__main__":
    main()
