"""Tokens per second through the whole rollout path, against `vllm.LLM.generate` alone.

Both have the same prompts and sampling. Our side: prompt seeds to a remote EnvRunner, environment,
chat template, engine with a seed per prompt, log-probabilities, scoring, groups into the object
store, summaries back. The other side: `generate` of the same engine, called in the same process.
"""

from __future__ import annotations

import numpy as np
import ray
from common import Side, alternate, math_environment, report, timed
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_dapo import DAPOConfig
from rllib_dapo.models import prompt_token_ids
from rllib_dapo.rollout.env_runner import TextEnvRunner
from rllib_dapo.rollout.rollout_stream import RolloutStream

PROMPTS, RESPONSES, MAX_TOKENS, ROUNDS, TARGET = 8, 8, 96, 3, 0.8


def bare_generate(runner: TextEnvRunner, seeds: range) -> float:
    """Tokens per second of `LLM.generate` alone; prompts are tokenized before the clock starts."""
    from vllm import SamplingParams, TokensPrompt

    prompts = [prompt_token_ids(runner.tokenizer, runner.env.reset(seed=seed)[0]) for seed in seeds]
    parameters = SamplingParams(n=RESPONSES, temperature=1.0, max_tokens=MAX_TOKENS, logprobs=0)
    llm = runner.module[DEFAULT_MODULE_ID].engine.llm
    inputs = [TokensPrompt(prompt_token_ids=ids) for ids in prompts]
    llm.reset_prefix_cache()

    seconds, outputs = timed(lambda: llm.generate(inputs, parameters, use_tqdm=False))
    return sum(len(o.token_ids) for request in outputs for o in request.outputs) / seconds


def main() -> None:
    """Runs both sides in turn."""
    env, env_config = math_environment()
    config = (
        DAPOConfig()
        .environment(env, env_config=env_config)
        .language_model("smollm2-135m", dtype="bfloat16")
        .rollout(max_prompt_tokens=512, max_response_tokens=MAX_TOKENS)
        .training(
            group_size=RESPONSES, prompts_per_step=PROMPTS, minibatch_size=PROMPTS * RESPONSES
        )
        .overlong(buffer_tokens=0)
        .fault_tolerance(restart_failed_env_runners=False)
    )
    config.validate()

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    runners = EnvRunnerGroup(config=config, local_env_runner=False)
    stream = RolloutStream(
        runners, max_groups_in_flight=512, timeout_seconds=None, restore_env_runners=lambda: None
    )
    step = iter(range(1000))

    def ours() -> float:
        runners.foreach_env_runner(
            lambda r: r.module[DEFAULT_MODULE_ID].engine.llm.reset_prefix_cache()
        )
        first = next(step) * PROMPTS
        seconds, results = timed(lambda: stream.sample(range(first, first + PROMPTS)))
        groups = [group for result in results for group in result.groups]
        return sum(n for group in groups for n in group.summary.response_tokens) / seconds

    def bare() -> float:
        first = next(step) * PROMPTS
        seeds = range(first, first + PROMPTS)
        return runners.foreach_env_runner(lambda r: bare_generate(r, seeds))[0]

    figures, others = alternate(ours, bare, rounds=ROUNDS)
    runners.stop()
    ray.shutdown()
    report(
        "rollout",
        ours=Side(label="rollout path", unit="tokens/s", values=figures),
        other=Side(label="vllm.LLM.generate", unit="tokens/s", values=others),
        target=TARGET,
        model="SmolLM2-135M, bfloat16",
        prompts=PROMPTS,
        responses=RESPONSES,
        max_tokens=MAX_TOKENS,
        mean_ratio=float(np.mean(figures) / np.mean(others)),
    )


if __name__ == "__main__":
    main()
