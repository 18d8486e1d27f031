"""What one of eight Learners fetches for an update, against fetching whole groups.

The batch is the paper's: 512 prompts with 16 responses each, in mini-batches of 512 responses, with
lengths that are spread as those of long reasoning are. The plan is the one of training, which
balances tokens and so spreads the responses to a prompt over Learners. EnvRunner and Learner are on
two nodes (two object stores on this machine), so that what is fetched really moves.

Our side are the responses in the plan, each an object of the store; the other side is each group as
one object.
"""

from __future__ import annotations

import time

import numpy as np
import ray
from common import Side, alternate, report, timed
from ray.cluster_utils import Cluster
from ray.experimental import get_object_locations

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup, Response
from rllib_dapo.learner.training_data import GroupTrainingData
from rllib_dapo.planning import plan_update
from rllib_dapo.rollout.rollout_result import SampledGroup
from rllib_dapo.stored_group import CutTokens, StoredGroup, WholeGroup, store_group

GROUPS, GROUP_SIZE, LEARNERS, ROUNDS, TARGET = 512, 16, 8, 3, 5.0
MOST_OVER_OWN = 1.3
MAX_TOKENS, MEDIAN_TOKENS, CHARACTERS_PER_TOKEN = 20480, 3000, 4
STORE_BYTES = 4 * 2**30


def make_groups(count: int = GROUPS, median_tokens: int = MEDIAN_TOKENS) -> list[PromptGroup]:
    """Groups with log-normal lengths of responses, which are long-tailed."""
    rng = np.random.default_rng(0)

    def response() -> Response:
        n = int(np.clip(rng.lognormal(np.log(median_tokens), 1.0), 1, MAX_TOKENS))
        return Response(
            token_ids=rng.integers(150_000, size=n, dtype=np.int32),
            loss_mask=np.ones(n, dtype=np.bool_),
            logprobs=rng.uniform(-4, 0, size=n).astype(np.float32),
            finish_reason="stop",
            reward=float(rng.choice([-1.0, 1.0])),
            is_correct=None,
            text="x" * (CHARACTERS_PER_TOKEN * n),
        )

    return [
        PromptGroup(
            seed=seed,
            prompt="",
            prompt_ids=rng.integers(150_000, size=int(rng.integers(50, 400)), dtype=np.int32),
            responses=tuple(response() for _ in range(GROUP_SIZE)),
            weights_version=0,
        )
        for seed in range(count)
    ]


@ray.remote(num_cpus=0, resources={"env_runner": 1})
class Runner:
    """Holds the groups, as an EnvRunner does."""

    def __init__(self, count: int, median_tokens: int) -> None:
        """Makes the groups."""
        self._groups = make_groups(count, median_tokens)

    def summaries(self) -> list:
        """What the driver plans from."""
        return [group.summary() for group in self._groups]

    def store(self) -> tuple[float, list[StoredGroup]]:
        """Puts every group into the store as `TextEnvRunner` does; the seconds, and references."""
        return timed(lambda: [store_group(group, cut=True) for group in self._groups])

    def store_whole(self) -> tuple[float, list[ray.ObjectRef]]:
        """Puts every group into the store as one object."""
        return timed(lambda: [ray.put(group) for group in self._groups])


@ray.remote(num_cpus=0, resources={"learner": 1})
class Learner:
    """Fetches, as a Learner does."""

    def fetch(self, data: GroupTrainingData) -> float:
        """Seconds for a Learner's shard."""
        return timed(data.solve_refs)[0]

    def fetch_whole(self, groups: list[ray.ObjectRef]) -> float:
        """Seconds for whole groups."""
        return timed(lambda: ray.get(groups))[0]


def megabytes(references: list[ray.ObjectRef]) -> float:
    """Size of objects in the store."""
    located = get_object_locations(references)
    return sum(place["object_size"] for place in located.values()) / 1e6


def references_of(shard: GroupTrainingData) -> list[ray.ObjectRef]:
    """All that a Learner would fetch."""
    return [
        reference
        for tokens in shard.groups.values()
        if isinstance(tokens, CutTokens)
        for reference in tokens.references()
    ]


class Comparison:
    """Both ways with the same groups and the same plan."""

    def __init__(self, count: int, median_tokens: int, minibatch_size: int) -> None:
        """Starts an EnvRunner and a Learner, and plans the update."""
        self._config = (
            DAPOConfig()
            .rollout(max_response_tokens=MAX_TOKENS)
            .training(group_size=GROUP_SIZE, minibatch_size=minibatch_size)
            .learners(num_learners=LEARNERS)
        )
        self._runner, self._learner = Runner.remote(count, median_tokens), Learner.remote()
        self._summaries = ray.get(self._runner.summaries.remote())
        self.figures: dict[str, list[float]] = {}

    def fetch_parts(self) -> float:
        """Megabytes that the first Learner fetches; notes seconds and what it would need."""
        seconds, groups = ray.get(self._runner.store.remote())
        started = time.perf_counter()
        shard = self._shards(groups)[0]
        self._note("planning and sharding, s", time.perf_counter() - started)
        self._note("put into the store, s", seconds)

        self._note("fetch, s", ray.get(self._learner.fetch.remote(shard)))
        fetched = megabytes(references_of(shard))
        self._note("fetched over own bytes", fetched / self._own_megabytes(shard))
        self._note("objects fetched", len(references_of(shard)))
        return fetched

    def fetch_whole(self) -> float:
        """Megabytes that the first Learner would fetch if each group were one object."""
        seconds, groups = ray.get(self._runner.store_whole.remote())
        self._note("put whole groups, s", seconds)

        sampled = [WholeGroup(reference=group) for group in groups]
        mine = [groups[index] for index in self._shards(sampled)[0].groups]
        self._note("fetch whole groups, s", ray.get(self._learner.fetch_whole.remote(mine)))
        self._note("whole groups fetched", len(mine))
        return megabytes(mine)

    def _shards(self, groups: list[StoredGroup]) -> list[GroupTrainingData]:
        sampled = {
            summary.seed: SampledGroup(summary=summary, data=data)
            for summary, data in zip(self._summaries, groups, strict=True)
        }
        data, _ = plan_update(self._summaries, sampled, self._config)
        assert data is not None
        return [shard for shard, _ in data.shard(LEARNERS)]

    def _own_megabytes(self, shard: GroupTrainingData) -> float:
        """Arrays of the planned responses and their prompts: 9 bytes a token, 4 of a prompt."""
        own = 0
        for index, tokens in shard.groups.items():
            summary = self._summaries[index]
            own += 4 * summary.prompt_tokens
            own += 9 * sum(summary.response_tokens[i] for i in tokens.responses)
        return own / 1e6

    def _note(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """Median of what was noted, without the warm-up."""
        return float(np.median(self.figures[name][1:]))


def main() -> None:
    """Runs both sides in turn."""
    cluster = Cluster()
    for resource in ("env_runner", "learner"):
        cluster.add_node(
            num_cpus=1,
            resources={resource: 2},
            object_store_memory=STORE_BYTES,
            include_dashboard=False,
        )
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")

    paper = Comparison(GROUPS, MEDIAN_TOKENS, 512)
    parts, whole = alternate(paper.fetch_parts, paper.fetch_whole, rounds=ROUNDS)

    # What many small objects cost: 8 prompts with responses of about 8 tokens.
    small = Comparison(8, 8, 32)
    for _ in range(ROUNDS + 1):
        small.fetch_parts()
        small.fetch_whole()

    for title, comparison in (("512 prompts", paper), ("8 prompts, short responses", small)):
        for name in comparison.figures:
            print(f"{title}: {name} {comparison.median(name):.4g}")

    ray.shutdown()
    cluster.shutdown()
    report(
        "fetch",
        ours=Side(label="the planned responses", unit="MB for one of 8 Learners", values=parts),
        other=Side(label="whole groups", unit="MB for one of 8 Learners", values=whole),
        target=TARGET,
        higher_is_better=False,
        also={"fetched over its own": (paper.median("fetched over own bytes"), MOST_OVER_OWN)},
        groups=GROUPS,
        responses=GROUP_SIZE,
        medians={name: round(paper.median(name), 4) for name in paper.figures},
        medians_of_short_responses={name: round(small.median(name), 4) for name in small.figures},
    )


if __name__ == "__main__":
    main()
