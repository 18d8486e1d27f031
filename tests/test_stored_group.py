"""Groups in the object store: cut by response, whole again, and gone when nobody refers to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest
import ray
from ray.experimental import get_object_locations

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup, Response, collate
from rllib_dapo.core.types import GroupSummary, GroupTokens, TurnRecord
from rllib_dapo.learner.training_data import GroupTrainingData
from rllib_dapo.planning import plan_update
from rllib_dapo.rollout.rollout_result import SampledGroup
from rllib_dapo.stored_group import CutGroup, PackedGroup, fetch_tokens
from rllib_dapo.stored_group import store_group as store_or_pack

pytestmark = pytest.mark.usefixtures("cluster")

LEARNERS, GROUPS, GROUP_SIZE, MAX_TOKENS = 8, 32, 16, 4096


# Groups of any size, put into the store.
store_group = partial(store_or_pack, small=-1)


def make_group(seed: int, *, lengths: list[int], prompt_tokens: int = 5) -> PromptGroup:
    rng = np.random.default_rng(seed)

    def response(n: int) -> Response:
        return Response(
            token_ids=rng.integers(1000, size=n, dtype=np.int32),
            loss_mask=rng.random(n) < 0.9,
            logprobs=rng.uniform(-4, 0, size=n).astype(np.float32),
            finish_reason="stop",
            reward=float(rng.choice([-1.0, 1.0])),
            is_correct=None,
            text=f"text of {n} tokens",
            prediction=str(n),
            components={"form": 0.5},
            turns=(TurnRecord(said="a", reward=1.0, observation="b"),),
        )

    return PromptGroup(
        seed=seed,
        prompt=f"prompt {seed}",
        prompt_ids=rng.integers(1000, size=prompt_tokens, dtype=np.int32),
        responses=tuple(response(n) for n in lengths),
        weights_version=3,
    )


def size(references: list[ray.ObjectRef]) -> int:
    """Bytes of objects in the store."""
    return sum(place["object_size"] for place in get_object_locations(references).values())


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("lengths", [[3, 1, 7], []])  # none: as that of a prompt that is too long
def test_a_group_comes_back_as_it_was(lengths: list[int], cut: bool) -> None:
    group = make_group(0, lengths=lengths)
    sampled = SampledGroup(summary=group.summary(), data=store_group(group, cut=cut))
    np.testing.assert_equal(asdict(sampled.group()), asdict(group))


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize(
    ("lengths", "is_packed"),
    [([], True), ([4096], True), ([2000, 2096], True), ([4097], False), ([2000, 2097], False)],
)
def test_a_small_group_is_no_object_of_its_own(
    lengths: list[int], is_packed: bool, cut: bool
) -> None:
    group = make_group(0, lengths=lengths)
    stored = store_or_pack(group, cut=cut)
    assert isinstance(stored, PackedGroup) is is_packed
    np.testing.assert_equal(asdict(stored.fetch()), asdict(group))


def test_packed_groups_are_fetched_beside_others() -> None:
    groups = [make_group(seed, lengths=[2, 4]) for seed in range(3)]
    stored = [
        store_or_pack(groups[0], cut=True).tokens,
        store_group(groups[1], cut=True).tokens.tokens_of([1]),
        store_or_pack(groups[2], cut=False).tokens.tokens_of([0]),
    ]
    found = fetch_tokens(stored)
    expected = [groups[0], groups[1].tokens_of([1]), groups[2]]
    for tokens, group in zip(found, expected, strict=True):
        np.testing.assert_equal(asdict(tokens), asdict(group))


def test_tokens_are_those_of_the_responses_asked_for() -> None:
    groups = [make_group(seed, lengths=[2, 4, 6, 8]) for seed in range(2)]
    one, two = (store_group(group, cut=True).tokens for group in groups)
    whole = store_group(groups[1], cut=False).tokens
    *found, found_whole = fetch_tokens(
        [one.tokens_of([3, 1]), two.tokens_of([0]), whole.tokens_of([0])]
    )

    for tokens, group, indices in zip(found, groups, ([3, 1], [0]), strict=True):
        np.testing.assert_equal(asdict(tokens), asdict(group.tokens_of(indices)))
    np.testing.assert_equal(asdict(found_whole), asdict(groups[1]))


def test_texts_are_apart_from_tokens() -> None:
    group = make_group(0, lengths=[1000])
    long = replace(group, responses=(replace(group.responses[0], text="x" * 10_000_000),))
    stored = store_group(long, cut=True)
    assert isinstance(stored, CutGroup)
    assert size(stored.tokens.references()) < 9 * 1000 + 4 * 5 + 2000
    assert size([stored.rest]) > 10_000_000


# What a Learner of several fetches


@pytest.fixture(scope="module")
def groups() -> list[PromptGroup]:
    """Lengths are long-tailed, as those of reasoning are: the longest are ten times the median."""
    rng = np.random.default_rng(1)
    lengths = np.clip(rng.lognormal(np.log(400), 1.0, size=(GROUPS, GROUP_SIZE)), 1, MAX_TOKENS)
    return [
        make_group(seed, lengths=of.astype(int).tolist(), prompt_tokens=int(rng.integers(50, 200)))
        for seed, of in enumerate(lengths)
    ]


@pytest.fixture(scope="module")
def config() -> DAPOConfig:
    """Two mini-batches, each for eight Learners."""
    return (
        DAPOConfig()
        .rollout(max_response_tokens=MAX_TOKENS)
        .training(
            group_size=GROUP_SIZE,
            minibatch_size=GROUPS * GROUP_SIZE // 2,
            max_tokens_per_microbatch=2 * MAX_TOKENS,
        )
        .learners(num_learners=LEARNERS)
    )


def store(groups: list[PromptGroup], *, cut: bool = True) -> list[SampledGroup]:
    return [SampledGroup(summary=g.summary(), data=store_group(g, cut=cut)) for g in groups]


def planned(sampled: list[SampledGroup], config: DAPOConfig) -> GroupTrainingData:
    summaries: list[GroupSummary] = [one.summary for one in sampled]
    data, _ = plan_update(summaries, {one.summary.seed: one for one in sampled}, config)
    assert data is not None
    return data


def own_bytes(shard: GroupTrainingData, groups: list[PromptGroup]) -> int:
    """Of each planned response three arrays, of each of their prompts one."""
    (minibatches,) = shard.shards
    mine = {(r.group, r.index) for plan in minibatches for micro in plan for r in micro.responses}
    arrays = [groups[g].prompt_ids for g in {g for g, _ in mine}]
    for g, i in mine:
        response = groups[g].responses[i]
        arrays += [response.token_ids, response.loss_mask, response.logprobs]
    return sum(array.nbytes for array in arrays)


def test_each_of_eight_learners_fetches_hardly_more_than_its_own_responses(
    groups: list[PromptGroup], config: DAPOConfig
) -> None:
    shards = [shard for shard, _ in planned(store(groups), config).shard(LEARNERS)]
    assert len(shards) == LEARNERS

    total = 0
    for shard in shards:
        references = [r for tokens in shard.groups.values() for r in tokens.references()]
        fetched, own = size(references), own_bytes(shard, groups)
        assert own <= fetched <= 1.3 * own
        total += own

    # Responses to most prompts are on most Learners: whole groups would be several times as much.
    assert sum(len(shard.groups) for shard in shards) > 5 * GROUPS
    assert total >= sum(9 * n for group in groups for n in group.summary().response_tokens)


def test_the_plan_is_the_same_wherever_the_tokens_are(
    groups: list[PromptGroup], config: DAPOConfig
) -> None:
    here = [SampledGroup(summary=group.summary(), data=group) for group in groups]
    assert planned(here, config).shards == planned(store(groups), config).shards


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("is_sharded", [True, False])
def test_what_is_fetched_makes_the_batches_that_whole_groups_make(
    groups: list[PromptGroup], config: DAPOConfig, is_sharded: bool, cut: bool
) -> None:
    """A Learner in the driver's process gets data that nobody has sharded."""
    if not is_sharded:
        config = config.copy(copy_frozen=False).learners(num_learners=0)
    some = groups[:4]
    data = planned(store(some, cut=cut), config)
    shards = [shard for shard, _ in data.shard(LEARNERS)] if is_sharded else [data]

    for shard in shards:
        shard.solve_refs()
        kinds = {type(tokens) for tokens in shard.groups.values()}
        assert kinds == {GroupTokens if cut else PromptGroup}
        (minibatches,) = shard.shards
        for plan in minibatches:
            for micro in plan:
                batch = collate(micro, shard.groups, pad_token_id=0)
                expected = collate(micro, dict(enumerate(some)), pad_token_id=0)
                assert all((batch[name] == expected[name]).all() for name in expected)


def test_what_nobody_refers_to_any_more_leaves_the_store() -> None:
    @ray.remote(num_cpus=0)
    def fetch(data: GroupTrainingData) -> int:
        data.solve_refs()
        return len(data.groups)

    before = free_bytes()
    big = [make_group(seed, lengths=[400_000] * 4) for seed in range(4)]  # 58 MB of tokens
    sampled = store(big)
    data = planned(
        sampled, DAPOConfig().rollout(max_response_tokens=400_000).learners(num_learners=2)
    )
    assert ray.get([fetch.remote(shard) for shard, _ in data.shard(2)]) == [4, 4]
    wait_until(lambda: free_bytes() < before - 50_000_000)

    del sampled, data
    wait_until(lambda: free_bytes() >= before)


def free_bytes() -> float:
    return ray.available_resources()["object_store_memory"]


def wait_until(holds: Callable[[], bool]) -> None:
    """Waits as long as the test may take: Ray reports what is free a few times a second."""
    while not holds():
        time.sleep(0.1)
