"""Full batches of groups, one after the other; where that is allowed, ahead of the Learners.

A batch is trained with a version of the weights. Its groups may have been begun with one that is up
to `rollout.max_staleness` versions older. So while Learners train a batch, the next ones are
sampled, and a response that goes on when new weights come goes on under these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Event
from typing import TYPE_CHECKING

from rllib_dapo.rollout.dynamic_sampler import DynamicSampler
from rllib_dapo.rollout.lost_groups import sample_lost_again
from rllib_dapo.rollout.rollout_checks import RolloutChecks
from rllib_dapo.rollout.rollout_result import RolloutResult, SampledGroup

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.core.types import PromptGroup
    from rllib_dapo.rollout.prompt_place import PromptPlace
    from rllib_dapo.rollout.rollout_stream import RolloutStream

# How often it is looked whether Learners have ended, where there is nothing to ask for.
IDLE_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledBatch:
    """A batch, and all that was sampled for it.

    Attributes:
        sampler: Dynamic sampling with its decisions.
        groups: The groups that were decided on, by prompt seed.
        results: What EnvRunners have brought since the batch before, without the groups.
        seconds: Time since then in which EnvRunners were asked for groups.
    """

    sampler: DynamicSampler
    groups: Mapping[int, SampledGroup]
    results: list[RolloutResult]
    seconds: float


class BatchSource:
    """Fills one batch after the other from a stream of groups."""

    def __init__(
        self,
        stream: RolloutStream,
        place: PromptPlace,
        config: DAPOConfig,
        *,
        restore_env_runners: Callable[[], None],
        was_restarted: Callable[[], bool],
    ) -> None:
        """Nothing is under way yet.

        Args:
            stream: Brings groups.
            place: The place in the stream of prompts.
            config: The algorithm's configuration.
            restore_env_runners: Brings restarted EnvRunners back, with the current weights.
            was_restarted: Says whether an EnvRunner was restarted without a word.
        """
        self._stream = stream
        self._place = place
        self._config = config
        self._checks = RolloutChecks(config)
        self._restore = restore_env_runners
        self._was_restarted = was_restarted
        self.start_over()

    def start_over(self) -> None:
        """Gives up all that is under way or kept; goes on with the first prompt of the place."""
        self._stream.give_up()
        self._sampler: DynamicSampler | None = None
        self._is_filled = False
        self._groups: dict[int, SampledGroup] = {}
        self._results: list[RolloutResult] = []
        self._seconds = 0.0
        self._batches_to_look_at = 0
        self._trained: dict[int, SampledGroup] = {}  # that may be trained on again

    def fill(self, *, version: int) -> SampledBatch:
        """Samples groups until the batch is full (paper, Algorithm 1, lines 2 to 8).

        Args:
            version: Version of the weights that engines and Learners hold.

        Raises:
            RuntimeError: As `RolloutChecks` says, or as sampling does.
            TimeoutError: As `RolloutStream.take`.
        """
        ahead = self._config.max_staleness * self._config.prompts_per_step
        sampler = self._begin(version=version, trained_with=version, ahead=ahead)
        with self._measured():
            while not sampler.is_done:
                self._advance(sampler)
        if not sampler.keeps:
            self._stream.give_up()
        self._sample_lost_again(sampler)
        self._checks.check_step(sampler)

        self._place.end_step(sampler)
        self._is_filled = True
        decided = {summary.seed: self._groups.pop(summary.seed) for summary in sampler.seen}
        if self._config.on_shortfall == "keep_uninformative":
            sampler.fill_up()
        elif self._config.on_shortfall == "reuse":
            decided |= self._reuse(sampler, decided)
        if not sampler.keeps:
            self._groups.clear()
        results, self._results = self._results, []
        seconds, self._seconds = self._seconds, 0.0
        return SampledBatch(sampler=sampler, groups=decided, results=results, seconds=seconds)

    @contextmanager
    def ahead(self, *, version: int) -> Iterator[None]:
        """Samples for batches to come while something else is done, as far as staleness allows.

        EnvRunners that die meanwhile are left alone: Learners that train have no weights for them.

        Args:
            version: Version of the weights that engines hold. The batches are trained with later
                ones.

        Raises:
            RuntimeError: As `fill`, at the end of the block.
        """
        if not self._config.max_staleness:
            yield
            return

        ahead = (self._config.max_staleness - 1) * self._config.prompts_per_step
        sampler = self._begin(version=version, trained_with=version + 1, ahead=ahead)
        has_ended = Event()

        def sample() -> None:
            while not has_ended.is_set():
                if not self._advance(sampler, until=has_ended.is_set):
                    has_ended.wait(IDLE_SECONDS)

        with ThreadPoolExecutor(1, thread_name_prefix="sampling ahead") as pool, self._measured():
            sampling = pool.submit(sample)
            try:
                yield
            finally:
                has_ended.set()
        sampling.result()

    def kept(self) -> list[PromptGroup]:
        """Groups that are here for batches to come, with their tokens."""
        here = set() if self._sampler is None else self._sampler.arrived_seeds
        return [self._groups[seed].group() for seed in sorted(here.intersection(self._groups))]

    def keep(self, groups: Sequence[PromptGroup]) -> None:
        """Goes on with groups that `kept` has returned, from the first prompt of the place.

        Args:
            groups: The groups; prompts between them are asked for anew.
        """
        sampler = self._place.begin_step()
        if groups and sampler.keeps:
            sampled = {g.seed: SampledGroup(summary=g.summary(), data=g) for g in groups}
            sampler.keep([group.summary for group in sampled.values()])
            self._sampler, self._groups = sampler, sampled

    def pause(self) -> None:
        """Gives up what is under way, which is asked for anew: the engines are wanted otherwise."""
        if self._sampler is not None and self._sampler.keeps:
            self._sampler.recall()
            self._stream.give_up()

    def _begin(self, *, version: int, trained_with: int, ahead: int) -> DynamicSampler:
        """Begins the next batch, or goes on with one that was begun ahead."""
        self._oldest = trained_with - self._config.max_staleness
        sampler = self._sampler
        if sampler is None or not sampler.keeps:  # also where the last one has failed
            sampler = self._place.begin_step()
            self._stream.begin_batch(self._place.visit_rates())
        else:
            if self._is_filled:
                sampler = sampler.following(oldest=self._oldest)
                self._stream.drop(sampler.too_old)
            if self._stream.has_lost:
                self._suspect_losses()
            self._stream.go_on(self._place.visit_rates())
        sampler.version, sampler.ahead = version, ahead
        self._sampler, self._is_filled = sampler, False
        return sampler

    def _advance(
        self, sampler: DynamicSampler, *, until: Callable[[], bool] | None = None
    ) -> list[RolloutResult]:
        """Asks for what is wanted, waits for some of it, and decides."""
        # Lines 2, 4 and 5: prompts, G responses to each, a reward for each; whichever group ends
        # first comes first.
        self._stream.put(sampler.ask())
        results = self._stream.take(until)
        arrived = {group.summary.seed: group for result in results for group in result.groups}
        self._checks.check(arrived, versions=range(self._oldest, sampler.version + 1))

        # Line 6: informative groups go into the buffer (Eq. 11).
        under_way = {seed: group for result in results for seed, group in result.under_way.items()}
        sampler.offer((group.summary for group in arrived.values()), under_way)
        self._stream.drop(sampler.drop())
        self._groups |= arrived
        self._results += [replace(result, groups=[], under_way={}) for result in results]
        return results

    def _reuse(
        self, sampler: DynamicSampler, decided: Mapping[int, SampledGroup]
    ) -> dict[int, SampledGroup]:
        """Fills a batch up with the youngest groups of earlier ones; returns those it has taken."""
        self._trained = {
            seed: group
            for seed, group in self._trained.items()
            if group.summary.weights_version >= self._oldest
        }
        youngest = sorted(
            (group.summary for group in self._trained.values()),
            key=lambda summary: (-summary.weights_version, -summary.seed),
        )
        new = [summary.seed for summary in sampler.accepted]
        taken = {one.seed: self._trained[one.seed] for one in sampler.reuse(youngest)}
        self._trained |= {seed: decided[seed] for seed in new}
        return taken

    def _suspect_losses(self) -> None:
        """An EnvRunner that is gone has taken with it what it had sampled for batches to come."""
        self._batches_to_look_at = 1 + self._config.max_staleness

    def _sample_lost_again(self, sampler: DynamicSampler) -> None:
        if self._was_restarted() or self._stream.has_lost:
            self._restore()
            self._suspect_losses()
        if self._batches_to_look_at:
            self._batches_to_look_at -= 1
            sample_lost_again(self._stream, sampler, self._groups)

    @contextmanager
    def _measured(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - started
