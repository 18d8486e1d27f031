from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_dapo.core import (
    LOSS_AGGREGATIONS,
    MicroBatchPlan,
    RowWork,
    TrainResponse,
    plan_minibatch,
)
from rllib_dapo.core.batching import split_evenly
from rllib_dapo.core.rows import pack_rows, row_tokens
from tests.core.made_up import response

if TYPE_CHECKING:
    from rllib_dapo.core import LossAggregation

QUICK = settings(derandomize=True, max_examples=50)


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
    max_row_tokens=st.sampled_from([0, 20, 60, "auto"]),
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
            bound = max_tokens if max_row_tokens == "auto" else max_row_tokens
            assert row_tokens(row) <= bound or len(row) == 1


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


def test_a_response_joins_a_row_only_where_that_is_less_work() -> None:
    responses = [response(0, i, prompt=20, tokens=3) for i in range(4)]
    a, b, c, d = responses

    def packed(per_pair: float, **settings: Any) -> list[Any]:
        work = RowWork(per_pair=per_pair, takes_blocks=settings.pop("takes_blocks", False))
        return pack_rows(responses, max_row_tokens=100, work=work, **settings)

    # 26 + 0.2 * 26² = 161 is more than 2 * (23 + 0.1 * 23²) = 152.
    assert packed(0.2) == [(a,), (b,), (c,), (d,)]
    # 26 + 0.1 * 26² = 94 under 2 * 49, 29 + 84 = 113 under 94 + 49, 32 + 102 = 134 under 113 + 49
    assert packed(0.1) == [(a, b, c, d)]
    # With blocks a prompt is compared with itself once.
    assert packed(0.2, takes_blocks=True) == [(a, b, c, d)]
    assert packed(0.2, takes_blocks=True, max_keys=22) == [(a,), (b,), (c,), (d,)]
    assert packed(0.1, max_keys=26) == [(a, b), (c, d)]
    assert pack_rows(responses, max_row_tokens=100, most=2) == [(a, b), (c, d)]


def test_auto_shares_prompts_and_keeps_enough_rows_for_all_learners() -> None:
    responses = [response(0, i, prompt=50, tokens=5) for i in range(8)]
    arguments: dict[str, Any] = {"max_tokens_per_microbatch": 1000, "max_row_tokens": "auto"}

    (alone,) = micro_batches(responses, **arguments)
    assert [len(row) for micro in alone for row in micro.rows] == [8]
    for shard in micro_batches(responses, num_shards=4, **arguments):
        assert [len(row) for micro in shard for row in micro.rows] == [2]

    expensive = RowWork(per_pair=1.0)
    (apart,) = micro_batches(responses, work=expensive, **arguments)
    assert {len(row) for micro in apart for row in micro.rows} == {1}
