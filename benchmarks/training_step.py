"""The training step that others are compared with, or that other times are a share of.

8 prompts x 8 responses x at most 128 new tokens, SmolLM2-135M in bfloat16, one optimizer step.
"""

from __future__ import annotations

from common import math_environment, timed

from rllib_dapo import DAPOConfig

PROMPTS, RESPONSES, MAX_TOKENS = 8, 8, 128
# About 200 tokens.
WORKED_EXAMPLE = (
    "Here is a problem with its solution. A farmer has 3 fields. In the first field she picked 24 "
    "baskets of apples in the morning and 17 baskets in the afternoon. In the second field she "
    "picked 12 baskets fewer than in the first. In the third field nothing was ripe, so she went "
    "home early and gave 9 baskets to her neighbour, who had helped her all day long. How many "
    "baskets of apples does the farmer have left in the evening? Solution: In the first field she "
    "picked 24 + 17 = 41 baskets. In the second field she picked 41 - 12 = 29 baskets. Both fields "
    "together gave 41 + 29 = 70 baskets. She gave 9 baskets away, so 70 - 9 = 61 baskets are left. "
    "Answer: 61. Now solve this problem in the same way. "
)


def step_config(*, long_prompts: bool = False) -> DAPOConfig:
    """The step. Dynamic sampling is off, so that it has exactly these prompts.

    Args:
        long_prompts: Put a worked example in front of each problem.
    """
    env, env_config = math_environment(short=True)
    if long_prompts:
        env_config["template"] = WORKED_EXAMPLE + env_config["template"]
    return (
        DAPOConfig()
        .environment(env, env_config=env_config)
        .language_model("smollm2-135m", dtype="bfloat16")
        .rollout(max_prompt_tokens=512, max_response_tokens=MAX_TOKENS)
        .env_runners(num_env_runners=1)
        .learners(num_learners=0)
        .training(
            group_size=RESPONSES,
            prompts_per_step=PROMPTS,
            minibatch_size=PROMPTS * RESPONSES,
            max_tokens_per_microbatch=4096,
        )
        .dynamic_sampling(enabled=False)
        .overlong(buffer_tokens=0)
        .fault_tolerance(restart_failed_env_runners=False)
    )


def step_seconds(rounds: int) -> list[float]:
    """Seconds of whole steps, after one that warms up; Ray must run.

    Args:
        rounds: Number of steps.
    """
    algo = step_config().build_algo()
    seconds = [timed(algo.train)[0] for _ in range(rounds + 1)]
    algo.stop()
    return seconds[1:]
