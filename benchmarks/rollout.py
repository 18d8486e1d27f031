"""Tokens per second through the whole rollout path, against `vllm.LLM.generate` alone.

Both have the same prompts and sampling. Our side: prompt seeds to a remote EnvRunner, environment,
chat template, engine with a seed per prompt, log-probabilities, scoring, groups into the object
store, summaries back. The other side: `generate` of the same engine, called in the same process.

    python benchmarks/rollout.py [--tiny]

With `--tiny` the model is the demo's, which is so small that the path around it shows most.
"""

from __future__ import annotations

import sys

import numpy as np
import ray
from common import Side, alternate, math_environment, report, timed
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_dapo import DAPOConfig
from rllib_dapo.models import prompt_token_ids
from rllib_dapo.rollout.env_runner import TextEnvRunner
from rllib_dapo.rollout.make_stream import make_stream

RESPONSES, MAX_TOKENS = 8, 96
# Model, type, prompts, rounds and what our side must reach of the other's tokens per second.
SMOLLM2 = ("smollm2-135m", "bfloat16", 8, 3, 0.95)
TINY = ("tiny", "float32", 64, 7, 0.9)
# It reads letter by letter: problems in words are longer than its context.
ARITHMETIC = ("rllib_dapo/Arithmetic-v0", {"max_operand": 49})


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
    is_tiny = "--tiny" in sys.argv[1:]
    model, dtype, prompts, rounds, target = TINY if is_tiny else SMOLLM2
    env, env_config = ARITHMETIC if is_tiny else math_environment()
    config = (
        DAPOConfig()
        .environment(env, env_config=env_config)
        .language_model(model, dtype=dtype)
        .rollout(max_prompt_tokens=32 if is_tiny else 512, max_response_tokens=MAX_TOKENS)
        .training(
            group_size=RESPONSES, prompts_per_step=prompts, minibatch_size=prompts * RESPONSES
        )
        .overlong(buffer_tokens=0)
        .fault_tolerance(restart_failed_env_runners=False)
    )
    config.validate()

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    runners = EnvRunnerGroup(config=config, local_env_runner=False)
    stream = make_stream(runners, config, lambda: None)
    step = iter(range(1000))

    def ours() -> float:
        runners.foreach_env_runner(
            lambda r: r.module[DEFAULT_MODULE_ID].engine.llm.reset_prefix_cache()
        )
        first = next(step) * prompts
        stream.begin_batch()
        seconds, results = timed(lambda: stream.sample(range(first, first + prompts)))
        groups = [group for result in results for group in result.groups]
        return sum(n for group in groups for n in group.summary.response_tokens) / seconds

    def bare() -> float:
        first = next(step) * prompts
        seeds = range(first, first + prompts)
        return runners.foreach_env_runner(lambda r: bare_generate(r, seeds))[0]

    figures, others = alternate(ours, bare, rounds=rounds)
    runners.stop()
    ray.shutdown()
    report(
        "rollout_tiny" if is_tiny else "rollout",
        ours=Side(label="rollout path", unit="tokens/s", values=figures),
        other=Side(label="vllm.LLM.generate", unit="tokens/s", values=others),
        target=target,
        model=f"{model}, {dtype}",
        prompts=prompts,
        responses=RESPONSES,
        max_tokens=MAX_TOKENS,
        mean_ratio=float(np.mean(figures) / np.mean(others)),
    )


if __name__ == "__main__":
    main()
