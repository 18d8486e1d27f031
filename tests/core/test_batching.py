from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_dapo.core import (
    LOSS_AGGREGATIONS,
    MicroBatchPlan,
    TrainResponse,
    attention_mask,
    collate,
    plan_minibatch,
)
from rllib_dapo.core.batching import balance_rows, pack_rows, row_tokens, split_evenly

if TYPE_CHECKING:
    from collections.abc import Callable

    from rllib_dapo.core import LossAggregation

QUICK = settings(derandomize=True, max_examples=50)
PAD = 99


def response(
    group: int,
    index: int,
    *,
    prompt: int = 2,
    tokens: int = 3,
    advantage: float = 1.0,
    reward: float = 0.0,
) -> TrainResponse:
    return TrainResponse(
        group=group,
        index=index,
        prompt_tokens=prompt,
        response_tokens=tokens,
        loss_tokens=tokens,
        advantage=advantage,
        reward=reward,
    )


def micro_batches(responses: list[TrainResponse], **settings: Any) -> list[list[MicroBatchPlan]]:
    arguments = {"loss_aggregation": "token_mean", "max_response_tokens": 100, **settings}
    return [list(plan) for plan in plan_minibatch(responses, **arguments)]


@st.composite
def minibatches(draw: st.DrawFn) -> list[TrainResponse]:
    """A few groups of a few responses, those of a group next to each other."""
    sizes = draw(
        st.lists(
            st.tuples(st.integers(1, 20), st.lists(st.integers(1, 30), max_size=6)), max_size=5
        )
    )
    return [
        response(g, i, prompt=prompt, tokens=tokens)
        for g, (prompt, lengths) in enumerate(sizes)
        for i, tokens in enumerate(lengths)
    ]


@QUICK
@given(
    responses=minibatches(),
    max_tokens=st.integers(1, 200),
    max_row_tokens=st.sampled_from([0, 20, 60]),
    num_shards=st.integers(1, 4),
)
def test_a_plan_holds_every_response_once_within_the_bounds_and_equally_many_for_each_learner(
    responses: list[TrainResponse], max_tokens: int, max_row_tokens: int, num_shards: int
) -> None:
    shards = micro_batches(
        responses,
        max_tokens_per_microbatch=max_tokens,
        max_row_tokens=max_row_tokens,
        num_shards=num_shards,
    )

    planned = [micro for shard in shards for micro in shard]
    assert Counter(r for micro in planned for r in micro.responses) == Counter(responses)
    assert len(shards) == num_shards
    assert len({len(shard) for shard in shards}) == 1

    for micro in planned:
        assert len(micro.weights) == len(micro.responses)
        padded = len(micro.rows) * max(map(row_tokens, micro.rows), default=0)
        assert padded <= max_tokens or len(micro.rows) == 1
        for row in micro.rows:
            assert len({r.group for r in row}) == 1
            assert row_tokens(row) <= max_row_tokens or len(row) == 1


@QUICK
@given(
    responses=minibatches(),
    max_tokens=st.integers(1, 200),
    num_shards=st.integers(1, 4),
    data=st.data(),
)
def test_a_responses_weight_does_not_depend_on_the_cut(
    responses: list[TrainResponse], max_tokens: int, num_shards: int, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(set(LOSS_AGGREGATIONS) - {"microbatch_token_mean"})))
    arguments = {"loss_aggregation": name, "max_row_tokens": 40}

    def weights(**cut: int) -> dict[TrainResponse, float]:
        shards = micro_batches(responses, **arguments, **cut)
        return {
            r: w
            for s in shards
            for micro in s
            for r, w in zip(micro.responses, micro.weights, strict=True)
        }

    whole = weights(max_tokens_per_microbatch=10**6)
    assert weights(max_tokens_per_microbatch=max_tokens, num_shards=num_shards) == whole


def test_microbatch_token_mean_weighs_each_micro_batchs_own_mean_by_its_responses() -> None:
    responses = [response(0, 0, tokens=6), response(0, 1, tokens=2), response(1, 0, tokens=2)]
    (plan,) = micro_batches(
        responses, loss_aggregation="microbatch_token_mean", max_tokens_per_microbatch=8
    )
    assert [micro.responses for micro in plan] == [responses[:1], responses[1:]]
    assert plan[0].weights == pytest.approx([1 / 6 * 1 / 3])
    assert plan[1].weights == pytest.approx([1 / 4 * 2 / 3] * 2)


@pytest.mark.parametrize("loss_aggregation", LOSS_AGGREGATIONS)
def test_fewer_rows_than_learners_leave_empty_micro_batches(
    loss_aggregation: LossAggregation,
) -> None:
    one = response(0, 0)
    shards = micro_batches(
        [one], loss_aggregation=loss_aggregation, max_tokens_per_microbatch=100, num_shards=3
    )
    assert [[micro.responses for micro in shard] for shard in shards] == [[[one]], [[]], [[]]]


def test_an_empty_micro_batch_collates_to_a_row_of_padding_without_responses() -> None:
    batch = collate(MicroBatchPlan(rows=(), weights=()), {}, pad_token_id=PAD)
    assert batch["input_ids"].tolist() == [[PAD]]
    assert batch["position_ids"].tolist() == [[0]]
    assert batch["segment_ids"].tolist() == [[-1]]
    assert {
        name: tuple(tensor.shape) for name, tensor in batch.items() if not name.endswith("_ids")
    } == {
        **dict.fromkeys(["predictor", "mask", "sampler_logprobs"], (0, 0)),
        **dict.fromkeys(["advantages", "rewards", "weights"], (0,)),
    }
    assert batch["response_ids"].shape == (0, 0)
    assert attention_mask(batch["segment_ids"]).tolist() == [[[[True]]]]


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [(1, [7]), (2, [3, 4]), (3, [2, 2, 3]), (7, [1] * 7), (9, [0, 0, 1, 1, 1, 1, 1, 1, 1])],
)
def test_an_even_split_is_consecutive_with_sizes_that_differ_by_at_most_one(
    parts: int, sizes: list[int]
) -> None:
    responses = [response(0, i) for i in range(7)]
    runs = split_evenly(responses, parts)
    assert [r for run in runs for r in run] == responses
    assert sorted(map(len, runs)) == sizes


def test_responses_to_one_prompt_share_rows_up_to_the_bound() -> None:
    responses = [response(0, i, prompt=2, tokens=3) for i in range(3)] + [
        response(1, 0, prompt=2, tokens=3)
    ]
    a, b, c, other = responses
    assert pack_rows(responses, max_row_tokens=8) == [(a, b), (c,), (other,)]
    assert pack_rows(responses, max_row_tokens=7) == [(a,), (b,), (c,), (other,)]
    assert pack_rows(responses, max_row_tokens=100) == [(a, b, c), (other,)]
    assert pack_rows(responses, max_row_tokens=0) == [(a,), (b,), (c,), (other,)]


def test_micro_batches_are_as_few_as_fit_and_alike_in_size() -> None:
    rows = [(response(0, i, prompt=1, tokens=3),) for i in range(6)]
    assert [len(part) for part in balance_rows(rows, max_tokens=24)] == [6]
    assert [len(part) for part in balance_rows(rows, max_tokens=20)] == [3, 3]  # not 5 and 1
    assert [len(part) for part in balance_rows(rows, max_tokens=20, multiple_of=3)] == [2, 2, 2]


def test_rows_of_like_length_go_together_and_a_longer_one_goes_alone() -> None:
    lengths = [2, 40, 9, 2, 10, 2]
    rows = [(response(0, i, prompt=1, tokens=n - 1),) for i, n in enumerate(lengths)]
    parts = balance_rows(rows, max_tokens=20)
    assert [[row_tokens(row) for row in part] for part in parts] == [[40], [10, 9], [2, 2, 2]]


@pytest.fixture
def two_groups(make_group: Callable[..., Any]) -> tuple[MicroBatchPlan, dict[str, torch.Tensor]]:
    """Two responses that share a row with their prompt, and a padded row of another group."""
    groups = {
        4: make_group([5, 6], [[7, 8, 9], [10]], logprobs=[[-0.5, -1.5, -2.5], [-3.5]]),
        8: make_group(
            [11, 12, 13],
            [[0], [14, 15]],
            loss_masks=[[True], [True, False]],
            logprobs=[[-9], [-4.5, -5.5]],
        ),
    }

    rows = (
        (
            response(4, 0, prompt=2, tokens=3, advantage=0.5, reward=1.0),
            response(4, 1, tokens=1, advantage=-0.5),
        ),
        (response(8, 1, prompt=3, tokens=2, advantage=2.0, reward=-0.25),),
    )

    plan = MicroBatchPlan(rows=rows, weights=(0.1, 0.2, 0.3))
    return plan, collate(plan, groups, pad_token_id=PAD)


def test_rows_are_a_prompt_followed_by_responses_that_continue_its_positions(
    two_groups: Any,
) -> None:
    _, batch = two_groups
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, PAD]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 2], [0, 1, 2, 3, 4, 0]]
    assert batch["segment_ids"].tolist() == [[0, 0, 1, 1, 1, 2], [0, 0, 0, 1, 1, -1]]


def test_responses_carry_their_own_tokens_masks_and_numbers(two_groups: Any) -> None:
    plan, batch = two_groups
    assert [(r.group, r.index) for r in plan.responses] == [(4, 0), (4, 1), (8, 1)]

    assert batch["response_ids"].tolist() == [[7, 8, 9], [10, PAD, PAD], [14, 15, PAD]]
    assert batch["mask"].tolist() == [
        [True, True, True],
        [True, False, False],
        [True, False, False],
    ]
    assert batch["sampler_logprobs"].tolist() == [[-0.5, -1.5, -2.5], [-3.5, 0, 0], [-4.5, -5.5, 0]]
    assert batch["advantages"].tolist() == [0.5, -0.5, 2.0]
    assert batch["rewards"].tolist() == [1.0, 0.0, -0.25]
    assert batch["weights"].tolist() == [0.1, 0.2, 0.3]

    assert {name: tensor.dtype for name, tensor in batch.items()} == {
        **dict.fromkeys(
            ["input_ids", "position_ids", "segment_ids", "predictor", "response_ids"], torch.int64
        ),
        "mask": torch.bool,
        "sampler_logprobs": torch.float32,
        **dict.fromkeys(["advantages", "rewards", "weights"], torch.float64),
    }


def test_the_prompts_last_token_predicts_every_first_token_and_each_token_its_successor(
    two_groups: Any,
) -> None:
    _, batch = two_groups
    # Rows are 6 wide: the first prompt ends at 1, the second at 6 + 2.
    assert batch["predictor"].tolist() == [[1, 2, 3], [1, 0, 0], [8, 9, 0]]


def test_attention_is_causal_within_a_response_and_to_the_prompt_alone() -> None:
    expected = [
        "x.....",  # prompt
        "xx....",
        "xxx...",  # first response: the prompt and itself
        "xxxx..",
        "xx..x.",  # second response: the prompt, not the first response
        ".....x",  # padding: itself, so that its softmax has something to sum
    ]

    mask = attention_mask(torch.tensor([[0, 0, 1, 1, 2, -1]]))
    assert mask.dtype == torch.bool
    assert mask.shape == (1, 1, 6, 6)
    assert [
        "".join("x" if seen else "." for seen in line) for line in mask[0, 0].tolist()
    ] == expected
