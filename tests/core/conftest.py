"""Builders shared by the tests of `rllib_dapo.core`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pytest
import torch

from rllib_dapo.core import PromptGroup, Response, TrainResponse

MakeGroup = Callable[..., PromptGroup]
ToTrain = Callable[[Mapping[int, PromptGroup], Sequence[float]], list[TrainResponse]]


def _make_group(
    prompt_ids: Sequence[int],
    token_ids: Sequence[Sequence[int]],
    *,
    loss_masks: Sequence[Sequence[bool]] | None = None,
    logprobs: Sequence[Sequence[float]] | None = None,
    rewards: Sequence[float] | None = None,
) -> PromptGroup:
    """A group from its token ids; by default all tokens have loss, log-probability -1 and reward 0."""
    responses = tuple(
        Response(
            token_ids=np.array(ids, dtype=np.int32),
            loss_mask=np.array(loss_masks[i] if loss_masks else [True] * len(ids), dtype=np.bool_),
            logprobs=np.array(logprobs[i] if logprobs else [-1.0] * len(ids), dtype=np.float32),
            finish_reason="stop",
            reward=rewards[i] if rewards else 0.0,
            is_correct=None,
            text="",
        )
        for i, ids in enumerate(token_ids)
    )
    return PromptGroup(
        seed=0,
        prompt="",
        prompt_ids=np.array(prompt_ids, dtype=np.int32),
        responses=responses,
        weights_version=0,
    )


def _to_train(
    groups: Mapping[int, PromptGroup], advantages: Sequence[float]
) -> list[TrainResponse]:
    """Every response of the groups, in order, with its advantage and its raw reward."""
    summaries = {key: group.summary() for key, group in groups.items()}
    places = [
        (key, i) for key, summary in summaries.items() for i in range(len(summary.response_tokens))
    ]
    return [
        TrainResponse(
            group=key,
            index=i,
            prompt_tokens=summaries[key].prompt_tokens,
            response_tokens=summaries[key].response_tokens[i],
            loss_tokens=summaries[key].loss_tokens[i],
            advantage=advantage,
            reward=groups[key].responses[i].reward,
        )
        for (key, i), advantage in zip(places, advantages, strict=True)
    ]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tensors here are tiny: on a busy machine threads that wait for each other take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_group() -> MakeGroup:
    return _make_group


@pytest.fixture(scope="session")
def to_train() -> ToTrain:
    return _to_train
