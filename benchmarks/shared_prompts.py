"""Seconds of an update with the default configuration, against the same with separate rows.

Prompts of 256 tokens with 8 responses of 64 each, random ones, and SmolLM2-135M. The default
configuration decides by itself to share prompts: after the check of the model at the start, and by
the estimated work. Both sides are one `LearnerGroup.update` of the same Learner, in turn.

    python benchmarks/shared_prompts.py [--dtype float32] [--prompts 2] [--rounds 3]

`--dtype float32` is for processors without instructions for bfloat16, where that takes five times
as long.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import numpy as np
import torch
from common import Side, alternate, report, timed
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup, Response
from rllib_dapo.envs import TextSpace
from rllib_dapo.learner.training_data import GroupTrainingData
from rllib_dapo.model_check.check_model import ModelCheck
from rllib_dapo.planning import plan_update
from rllib_dapo.rollout.rollout_result import SampledGroup

PROMPT_TOKENS, RESPONSES, RESPONSE_TOKENS, TARGET = 256, 8, 64, 2.8


def make_config(dtype: str, prompts: int) -> DAPOConfig:
    """The defaults, but for what a small machine needs: one mini-batch, and its own log-probs."""
    config = (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0")
        .language_model("smollm2-135m", dtype=dtype)
        .rollout(
            engine="transformers",
            max_prompt_tokens=PROMPT_TOKENS,
            max_response_tokens=RESPONSE_TOKENS,
        )
        .env_runners(num_env_runners=0)
        .learners(num_learners=0)
        .training(
            group_size=RESPONSES,
            prompts_per_step=prompts,
            minibatch_size=prompts * RESPONSES,
            max_tokens_per_microbatch=4096,
        )
        .overlong(buffer_tokens=0)
    )
    config.validate()
    return config


def make_groups(count: int) -> list[PromptGroup]:
    """Random tokens, and verdicts of both kinds."""
    rng = np.random.default_rng(0)

    def tokens(n: int) -> np.ndarray:
        return rng.integers(49152, size=n, dtype=np.int32)

    def response(i: int) -> Response:
        return Response(
            token_ids=tokens(RESPONSE_TOKENS),
            loss_mask=np.ones(RESPONSE_TOKENS, dtype=bool),
            logprobs=np.full(RESPONSE_TOKENS, -10.0, dtype=np.float32),
            finish_reason="stop",
            reward=1.0 if i % 2 else -1.0,
            is_correct=bool(i % 2),
            text="",
        )

    return [
        PromptGroup(
            seed=seed,
            prompt="",
            prompt_ids=tokens(PROMPT_TOKENS),
            responses=tuple(response(i) for i in range(RESPONSES)),
            weights_version=0,
        )
        for seed in range(count)
    ]


def plan(groups: Sequence[PromptGroup], config: DAPOConfig) -> GroupTrainingData:
    """One update, as the driver plans it."""
    sampled = {g.seed: SampledGroup(summary=g.summary(), data=g) for g in groups}
    data, _ = plan_update([g.summary() for g in groups], sampled, config)
    assert data is not None
    return data


def main() -> None:
    """Runs both sides in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    config = make_config(given.dtype, given.prompts)
    learners = config.build_learner_group(
        spaces={DEFAULT_MODULE_ID: (TextSpace(100), TextSpace(100))}
    )
    check = ModelCheck(config)
    shared = check.compare(learners, config)
    separate = shared.copy(copy_frozen=False).training(max_shared_row_tokens=0)
    for finding in check.report.findings:
        print(f"{finding.check}: {finding.detail}", flush=True)

    groups = make_groups(given.prompts)
    ways = [plan(groups, way) for way in (shared, separate)]
    rows = [[len(row) for micro in way.shards[0][0] for row in micro.rows] for way in ways]
    print(f"responses of each row: {rows[0]}, and {set(rows[1])}", flush=True)

    seconds, others = alternate(
        lambda: timed(lambda: learners.update(training_data=ways[0]))[0],
        lambda: timed(lambda: learners.update(training_data=ways[1]))[0],
        rounds=given.rounds,
    )
    report(
        "shared_prompts",
        ours=Side(label="default configuration", unit="s", values=seconds),
        other=Side(label="separate rows", unit="s", values=others),
        target=TARGET,
        higher_is_better=False,
        model=f"SmolLM2-135M, {given.dtype}",
        prompts=given.prompts,
        prompt_tokens=PROMPT_TOKENS,
        responses=RESPONSES,
        response_tokens=RESPONSE_TOKENS,
        responses_per_row=rows[0],
    )


if __name__ == "__main__":
    main()
