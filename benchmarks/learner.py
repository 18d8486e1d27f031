"""Trained tokens per second: `LearnerGroup.update` against a plain PyTorch loop on the same tokens.

The tokens are real: responses sampled by vLLM from SmolLM2-135M. The plain loop is what anyone
would write first: the model in bfloat16, padded rows, full logits, `log_softmax` and `gather`, the
clipped surrogate over the mini-batch's token count, gradient clipping, AdamW. Both sides take the
same responses in the same mini-batches, with micro-batches of the same size. Our side has the
default settings of the update: prompts are shared where the model's check and the estimate say so.

    python benchmarks/learner.py [--dtype float32] [--prompts 4] [--rounds 3]

`--dtype float32` is for processors without instructions for bfloat16.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import torch
from common import Side, alternate, math_environment, report, timed
from ray.rllib.core import DEFAULT_MODULE_ID
from torch import Tensor

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup, RowWork, TrainResponse, plan_minibatch
from rllib_dapo.core.batching import split_evenly
from rllib_dapo.learner.training_data import GroupTrainingData
from rllib_dapo.model_check.check_model import ModelCheck
from rllib_dapo.models import load_causal_lm, resolve_model
from rllib_dapo.rollout.env_runner import TextEnvRunner

PROMPTS, RESPONSES, MAX_TOKENS = 4, 8, 128
MINIBATCHES, MICROBATCH_TOKENS = 2, 4096
ROUNDS, TARGET = 3, 1.2


def make_config(dtype: str, prompts: int) -> DAPOConfig:
    """SmolLM2 with settings for a small machine."""
    env, env_config = math_environment()
    return (
        DAPOConfig()
        .environment(env, env_config=env_config)
        .language_model("smollm2-135m", dtype=dtype)
        .rollout(max_prompt_tokens=512, max_response_tokens=MAX_TOKENS)
        .env_runners(num_env_runners=0)
        .learners(num_learners=0)
        .training(
            group_size=RESPONSES,
            prompts_per_step=prompts,
            minibatch_size=prompts * RESPONSES // MINIBATCHES,
            max_tokens_per_microbatch=MICROBATCH_TOKENS,
            old_logprobs="sampler",
        )
        .overlong(buffer_tokens=0)
    )


def sample(config: DAPOConfig) -> list[PromptGroup]:
    """Samples real responses."""
    runner = TextEnvRunner(config=config, worker_index=0)
    groups = [
        sampled.group() for sampled in runner.sample_groups(range(config.prompts_per_step)).groups
    ]
    runner.stop()
    return groups


def plan(config: DAPOConfig, groups: Sequence[PromptGroup]) -> GroupTrainingData:
    """Plans all responses with advantages of 1 and -1 in turn, whose values do not matter here."""
    responses = [
        TrainResponse(
            group=g,
            index=i,
            prompt_tokens=len(group.prompt_ids),
            response_tokens=len(response.token_ids),
            loss_tokens=len(response.token_ids),
            advantage=1.0 if i % 2 else -1.0,
            reward=0.0,
        )
        for g, group in enumerate(groups)
        for i, response in enumerate(group.responses)
    ]

    plans = [
        plan_minibatch(
            part,
            loss_aggregation="token_mean",
            max_response_tokens=MAX_TOKENS,
            max_tokens_per_microbatch=MICROBATCH_TOKENS,
            max_row_tokens=config.max_shared_row_tokens,
            work=config.row_work or RowWork(),
        )[0]
        for part in split_evenly(responses, MINIBATCHES)
    ]
    return GroupTrainingData(groups=dict(enumerate(groups)), shards=[plans])


class PlainLoop:
    """The other side: the loop without this package."""

    def __init__(self, groups: Sequence[PromptGroup], pad: int, dtype: torch.dtype) -> None:
        """Loads the model in this type and cuts the responses into mini-batches."""
        self.model = load_causal_lm(resolve_model("smollm2-135m"), dtype=dtype)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, fused=True)
        self.pad = pad

        rows = [
            (group.prompt_ids, response, 1.0 if i % 2 else -1.0)
            for group in groups
            for i, response in enumerate(group.responses)
        ]
        size = len(rows) // MINIBATCHES
        self.minibatches = [rows[i : i + size] for i in range(0, len(rows), size)]

    def microbatches(self, rows: list) -> list[list]:
        """Rows of similar length together, as many as the limit of tokens allows."""
        rows = sorted(rows, key=lambda row: len(row[0]) + len(row[1].token_ids), reverse=True)
        batches: list[list] = []
        for row in rows:
            longest = len(batches[-1][0][0]) + len(batches[-1][0][1].token_ids) if batches else 0
            if batches and longest * (len(batches[-1]) + 1) <= MICROBATCH_TOKENS:
                batches[-1].append(row)
            else:
                batches.append([row])
        return batches

    def tensors(self, rows: list) -> tuple[Tensor, ...]:
        """Padded ids, attention, mask of response tokens, old log-probabilities, advantages."""
        width = max(len(prompt) + len(response.token_ids) for prompt, response, _ in rows)
        ids = torch.full((len(rows), width), self.pad)
        attention = torch.zeros_like(ids)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        old = torch.zeros(ids.shape)

        for i, (prompt, response, _) in enumerate(rows):
            start, end = len(prompt), len(prompt) + len(response.token_ids)
            ids[i, :start] = torch.as_tensor(prompt)
            ids[i, start:end] = torch.as_tensor(response.token_ids)
            attention[i, :end] = 1
            mask[i, start:end] = True
            old[i, start:end] = torch.as_tensor(response.logprobs)
        return ids, attention, mask, old, torch.tensor([advantage for *_, advantage in rows])

    def update(self) -> None:
        """One pass over all mini-batches."""
        for rows in self.minibatches:
            tokens = sum(len(response.token_ids) for _, response, _ in rows)
            self.optimizer.zero_grad()
            for micro in self.microbatches(rows):
                ids, attention, mask, old, advantages = self.tensors(micro)

                logits = self.model(input_ids=ids, attention_mask=attention).logits[:, :-1].float()
                logprobs = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)

                ratio = (logprobs - old[:, 1:]).exp()
                surrogate = torch.min(
                    ratio * advantages[:, None], ratio.clamp(0.8, 1.28) * advantages[:, None]
                )

                (-(surrogate * mask[:, 1:]).sum() / tokens).backward()

            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()


def main() -> None:
    """Runs both sides in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    config = make_config(given.dtype, given.prompts)
    config.validate()
    groups = sample(config)

    runner_spaces = TextEnvRunner(
        config=config.copy(copy_frozen=False).env_runners(num_env_runners=1), worker_index=0
    )
    learner_group = config.build_learner_group(
        rl_module_spec=config.get_multi_rl_module_spec(spaces=runner_spaces.get_spaces())
    )
    config = ModelCheck(config).compare(learner_group, config)
    data = plan(config, groups)

    tokens = sum(len(response.token_ids) for group in groups for response in group.responses)
    pad = learner_group._learner.module[DEFAULT_MODULE_ID].lm.config.pad_token_id or 0
    loop = PlainLoop(groups, pad, getattr(torch, given.dtype))
    prompt_tokens = sum(len(group.prompt_ids) for group in groups) * RESPONSES
    print(f"{tokens} response tokens, {prompt_tokens} prompt tokens per update", flush=True)

    figures, others = alternate(
        lambda: tokens / timed(lambda: learner_group.update(training_data=data))[0],
        lambda: tokens / timed(loop.update)[0],
        rounds=given.rounds,
    )
    report(
        "learner",
        ours=Side(label="LearnerGroup.update", unit="tokens/s", values=figures),
        other=Side(label="plain PyTorch loop", unit="tokens/s", values=others),
        target=TARGET,
        model=f"SmolLM2-135M, {given.dtype}",
        response_tokens=tokens,
        responses_per_row=[len(row) for p in data.shards[0] for m in p for row in m.rows],
    )


if __name__ == "__main__":
    main()
