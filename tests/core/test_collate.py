"""From planned rows to tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from rllib_dapo.core import MicroBatchPlan, attention_mask, collate
from tests.core.made_up import response

if TYPE_CHECKING:
    from collections.abc import Callable

PAD = 99


def test_an_empty_micro_batch_collates_to_a_row_of_padding_without_responses() -> None:
    batch = collate(MicroBatchPlan(rows=(), weights=()), {}, pad_token_id=PAD)
    assert batch["input_ids"].tolist() == [[PAD]]
    assert {
        name: tuple(tensor.shape) for name, tensor in batch.items() if not name.endswith("_ids")
    } == {
        **dict.fromkeys(["predictor", "mask", "sampler_logprobs"], (0, 0)),
        **dict.fromkeys(["advantages", "rewards", "weights"], (0,)),
    }
    assert batch["response_ids"].shape == (0, 0)
    assert attention_mask(torch.tensor([[-1]])).tolist() == [[[[True]]]]


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


def test_rows_of_one_response_have_neither_positions_nor_segments(
    make_group: Callable[..., Any],
) -> None:
    rows = ((response(0, 0, tokens=1),), (response(0, 1, tokens=2),))
    plan = MicroBatchPlan(rows=rows, weights=(0.5, 0.5))
    batch = collate(plan, {0: make_group([5, 6], [[7], [8, 9]])}, pad_token_id=PAD)
    assert batch["input_ids"].tolist() == [[5, 6, 7, PAD], [5, 6, 8, 9]]
    assert batch["predictor"].tolist() == [[1, 0], [5, 6]]
    assert not {"position_ids", "segment_ids"} & batch.keys()


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
            ["input_ids", "position_ids", "segment_ids", "predictor", "response_ids"], torch.int32
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
