"""Bytes that the responses of an update take on a Learner, against all micro-batches made at once.

8,192 responses in 16 mini-batches, prepared as before an update: old log-probabilities and
entropies of all mini-batches but the first are there, which is when most is held. What a model
computes is made up, so that nothing but the data is counted.

The other side is how it would be done without `PlannedBatch`: every micro-batch as padded tensors,
64-bit ids, positions and segments, and what is computed padded likewise. On both sides the tokens
as they came count too. Peaks are sums of `nbytes` of all tensors and arrays that are alive.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from common import Side, report
from torch import Tensor

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup, Response, TrainResponse, plan_minibatch
from rllib_dapo.core.batching import MiniBatchPlan, split_evenly
from rllib_dapo.learner.old_logprobs import prepare_minibatches
from rllib_dapo.learner.planned_batch import PlannedBatch
from rllib_dapo.learner.training_data import MicroBatches, plan_batches

PROMPTS, RESPONSES, MINIBATCHES, MICROBATCH_TOKENS = 512, 16, 16, 32768
MEDIAN_TOKENS, SIGMA, MAX_TOKENS, PROMPT_TOKENS = 400, 0.8, 2048, 200
LEAST_RATIO = 1 / 0.45


def make_groups() -> dict[int, PromptGroup]:
    """Responses of log-normal lengths."""
    rng = np.random.default_rng(0)

    def response() -> Response:
        n = int(np.clip(rng.lognormal(np.log(MEDIAN_TOKENS), SIGMA), 1, MAX_TOKENS))
        return Response(
            token_ids=rng.integers(1000, size=n, dtype=np.int32),
            loss_mask=np.ones(n, dtype=bool),
            logprobs=np.zeros(n, dtype=np.float32),
            finish_reason="stop",
            reward=0.0,
            is_correct=None,
            text="",
        )

    return {
        seed: PromptGroup(
            seed=seed,
            prompt="",
            prompt_ids=rng.integers(1000, size=PROMPT_TOKENS, dtype=np.int32),
            responses=tuple(response() for _ in range(RESPONSES)),
            weights_version=0,
        )
        for seed in range(PROMPTS)
    }


def plans(groups: dict[int, PromptGroup]) -> list[MiniBatchPlan]:
    """One Learner's mini-batches of separate rows."""
    responses = [
        TrainResponse(
            group=g,
            index=i,
            prompt_tokens=len(group.prompt_ids),
            response_tokens=len(response.token_ids),
            loss_tokens=len(response.token_ids),
            advantage=1.0,
            reward=0.0,
        )
        for g, group in groups.items()
        for i, response in enumerate(group.responses)
    ]
    return [
        plan_minibatch(
            part,
            loss_aggregation="token_mean",
            max_response_tokens=MAX_TOKENS,
            max_tokens_per_microbatch=MICROBATCH_TOKENS,
        )[0]
        for part in split_evenly(responses, MINIBATCHES)
    ]


def prepared(groups: dict[int, PromptGroup], minibatches: Sequence[MiniBatchPlan]) -> float:
    """Peak bytes as an update holds them."""
    largest = 0

    def forward(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        nonlocal largest
        largest = max(largest, sum(tensor.nbytes for tensor in batch.values()))
        made = torch.zeros(batch["mask"].shape)
        return {"logprobs": made, "entropy": made.clone()}

    planned = [
        MicroBatches(
            batches=plan_batches(plan, groups, pad_token_id=0, device="cpu"),
            progress=0.0,
            is_first=i == 0,
        )
        for i, plan in enumerate(minibatches)
    ]
    config = DAPOConfig()
    prepare_minibatches(planned, config, forward=forward, reference=lambda batch: batch["mask"])
    held = sum(
        tensor.nbytes for micro in planned for batch in micro.batches for tensor in added(batch)
    )
    return held + 2 * largest  # this micro-batch, and the next one that is being made


def added(batch: PlannedBatch) -> list[Tensor]:
    """What was added to a micro-batch and is held."""
    return list(batch._added.values())


def at_once(groups: dict[int, PromptGroup], minibatches: Sequence[MiniBatchPlan]) -> float:
    """Bytes of all micro-batches as padded tensors."""
    total = 0
    for i, plan in enumerate(minibatches):
        for planned in plan_batches(plan, groups, pad_token_id=0, device="cpu"):
            batch = planned.tensors()
            rows, tokens = batch["input_ids"].numel(), batch["mask"].numel()
            others = sum(batch[n].nbytes for n in ("mask", "sampler_logprobs", "advantages"))
            # ids, positions, segments; places and ids of response tokens; what was computed
            total += 3 * 8 * rows + 2 * 8 * tokens + others + (8 * tokens if i else 0)
    return total


def main() -> None:
    """Counts both sides."""
    groups = make_groups()
    minibatches = plans(groups)
    tokens = sum(len(r.token_ids) for group in groups.values() for r in group.responses)
    as_they_came = sum(group.prompt_ids.nbytes for group in groups.values()) + 9 * tokens

    ours = (prepared(groups, minibatches) + as_they_came) / tokens
    other = (at_once(groups, minibatches) + as_they_came) / tokens
    report(
        "planned_memory",
        ours=Side(label="planned micro-batches", unit="bytes/response token", values=[ours]),
        other=Side(label="all micro-batches at once", unit="bytes/response token", values=[other]),
        target=round(LEAST_RATIO, 2),
        higher_is_better=False,
        responses=PROMPTS * RESPONSES,
        response_tokens=tokens,
        prompt_tokens=PROMPT_TOKENS,
    )


if __name__ == "__main__":
    main()
