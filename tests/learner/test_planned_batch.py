"""A micro-batch's tensors are made when they are needed, and little is held until then."""

from __future__ import annotations

from collections.abc import Callable
from threading import current_thread
from typing import Any

import pytest
import torch

from rllib_dapo.core import PromptGroup, TrainResponse, collate, plan_minibatch
from rllib_dapo.learner.planned_batch import PlannedBatch, made_ahead

Batch = tuple[PlannedBatch, dict[str, torch.Tensor]]


@pytest.fixture(params=[0, 24], ids=["separate", "shared"])
def batch(
    make_groups: Callable[..., dict[int, PromptGroup]],
    train_responses: Callable[..., list[TrainResponse]],
    request: pytest.FixtureRequest,
) -> Batch:
    """A planned micro-batch, and what `collate` gives of it."""
    groups = make_groups()
    ((plan,),) = plan_minibatch(
        train_responses(groups),
        loss_aggregation="token_mean",
        max_response_tokens=8,
        max_tokens_per_microbatch=10_000,
        max_row_tokens=request.param,
    )
    planned = PlannedBatch(plan, groups, pad_token_id=0, device="cpu")
    return planned, collate(plan, groups, pad_token_id=0)


def test_it_has_what_collate_gives_and_where_each_response_is_from(batch: Batch) -> None:
    planned, collated = batch
    tensors = planned.tensors()
    assert tensors.keys() == collated.keys() | {"groups", "indices"}
    for name, expected in collated.items():
        assert torch.equal(tensors[name], expected)
        assert torch.equal(planned[name], expected)
    places = set(zip(tensors["groups"].tolist(), planned["indices"].tolist(), strict=True))
    assert places == {(group, index) for group in range(4) for index in range(4)}
    assert planned.num_responses == 16


def test_what_is_added_is_held_for_tokens_with_loss_alone(batch: Batch) -> None:
    planned, collated = batch
    mask = collated["mask"]
    added = torch.randn(mask.shape) * mask
    planned["old_entropy"], planned["rewards"] = added, torch.arange(16.0)
    planned["token_mask"] = added > 0
    for found in (planned, planned.tensors()):
        assert torch.equal(found["old_entropy"], added)
        assert torch.equal(found["token_mask"], added > 0)
        assert found["rewards"].tolist() == list(range(16))
        assert "old_entropy" in found
    held = sum(tensor.nbytes for tensor in planned._added.values())
    assert held == (4 + 1) * int(mask.sum()) + 4 * 16


def test_a_second_name_takes_no_memory_and_follows_the_first(batch: Batch) -> None:
    planned, collated = batch
    planned.same_as("old_logprobs", "sampler_logprobs")
    assert torch.equal(planned["old_logprobs"], collated["sampler_logprobs"])
    assert torch.equal(planned.tensors()["old_logprobs"], collated["sampler_logprobs"])
    assert not planned._added
    assert {"old_logprobs", "groups"} <= set(planned)


def test_a_name_that_nobody_gave_is_missing(batch: Batch) -> None:
    planned, _ = batch
    with pytest.raises(KeyError):
        planned["old_values"]
    assert planned.get("old_values") is None


def test_the_next_is_made_on_a_thread_while_this_one_is_in_use() -> None:
    made: list[tuple[int, str]] = []

    def make(item: int) -> int:
        made.append((item, current_thread().name))
        return item

    for ahead, item in enumerate(made_ahead([0, 1, 2, 3], make)):
        assert item == ahead
        assert len(made) <= ahead + 2
    assert [item for item, _ in made] == [0, 1, 2, 3]
    assert {name.rpartition("_")[0] for _, name in made} == {"collate"}
    assert list(made_ahead([], make)) == []
    assert list(made_ahead([7], make)) == [7]


def test_what_fails_on_the_thread_fails_where_it_is_used() -> None:
    def make(item: int) -> int:
        return 1 // item

    with pytest.raises(ZeroDivisionError):
        list(made_ahead([1, 0, 1], make))


def test_an_update_holds_a_fraction_of_what_its_micro_batches_would_take(
    make_trainer: Callable[..., Any], learner_config: Callable[..., Any], make_data: Any
) -> None:
    trainer = make_trainer(learner_config())
    batches = trainer.prepared_batches(make_data(minibatches=4))
    held = sum(tensor.nbytes for batch in batches for tensor in batch._added.values())
    whole = sum(tensor.nbytes for batch in batches for tensor in batch.tensors().values())
    assert 0 < held < 0.2 * whole
