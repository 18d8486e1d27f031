"""An EnvRunner that sleeps as long as an engine would take, and is so light that dozens fit.

Unlike `simulated_engine.py`, which sits in a real EnvRunner and decodes token by token, it wakes up
only when a response ends. To the driver it looks like a `TextEnvRunner`.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.env_runner import EnvRunner

from rllib_dapo.core.types import GroupSummary
from rllib_dapo.envs import TextSpace
from rllib_dapo.rollout.group_so_far import GroupSoFar
from rllib_dapo.rollout.reported_failures import or_failure
from rllib_dapo.rollout.rollout_result import RolloutResult, SampledGroup
from rllib_dapo.stored_group import PackedGroup

# Stands for a group's tokens: as many bytes as a reference and what goes with it.
TOKENS = PackedGroup(packed=bytes(1000))


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long responses get, how long they take, and how many groups are informative.

    Lengths are log-normal and cut off: a median of 2,400 tokens, a 95th percentile of 10,000.

    Attributes:
        median_tokens: Median length of a response.
        sigma: Standard deviation of the logarithm of lengths.
        most_tokens: Longest response.
        token_seconds: Seconds of a response for each of its tokens.
        informative: Share of informative groups.
    """

    median_tokens: float = 2400.0
    sigma: float = 0.87
    most_tokens: int = 20_480
    token_seconds: float = 0.0003
    informative: float = 0.5


@dataclass(kw_only=True)
class SleepingGroup:
    """A group under way.

    Attributes:
        tokens: `[G]` lengths of its responses.
        verdicts: `[G]` whether each is right.
        ended: Places of the responses that have ended.
    """

    tokens: list[int]
    verdicts: list[bool]
    ended: list[int] = field(default_factory=list)


class SleepingRunner(EnvRunner):
    """Answers `advance` as a `TextEnvRunner` does; `env_config` has the fields of `Lengths`."""

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        """Begins idle."""
        super().__init__(config=config, **kwargs)
        self._lengths = Lengths(**config.env_config)
        self._room = config.max_concurrent_responses
        self._group_size = config.group_size
        self._begin_batch(0)

    def _begin_batch(self, batch: int) -> None:
        self._batch = batch
        self._groups: dict[int, SleepingGroup] = {}
        self._waiting: deque[tuple[int, int]] = deque()  # seed, place
        self._running: list[tuple[float, int, int]] = []  # a heap: when it ends, seed, place
        self._num_ended = 0

    def advance(
        self,
        seeds: Sequence[int],
        *,
        call: int,
        batch: int,
        seconds: float,
        rates: Any = None,
        drop: Collection[int] = (),
    ) -> RolloutResult:
        """See `TextEnvRunner.advance`."""
        if batch != self._batch:
            self._begin_batch(batch)
        for seed in drop:
            self._groups.pop(seed, None)
        if drop:
            self._waiting = deque(one for one in self._waiting if one[0] in self._groups)
            self._running = [one for one in self._running if one[1] in self._groups]
            heapq.heapify(self._running)
        for seed in seeds:
            self._groups[seed] = self._draw(seed)
            self._waiting.extend((seed, place) for place in range(self._group_size))

        ended = self._sleep(time.monotonic(), seconds)
        return RolloutResult(
            groups=[SampledGroup(summary=self._summary(*one), data=TOKENS) for one in ended],
            generation_seconds=seconds,
            scoring_seconds=0.0,
            under_way={seed: _so_far(group) for seed, group in self._groups.items()},
            progress=self._num_ended,
            call=call,
        )

    try_advance = or_failure(advance)

    def _sleep(self, now: float, seconds: float) -> list[tuple[int, SleepingGroup]]:
        """Sleeps until all groups have ended, or time is up; returns those that have ended."""
        until, ended = now + seconds, []
        self._begin_waiting(now)
        while self._running and (end := self._running[0][0]) <= until:
            time.sleep(max(0.0, end - time.monotonic()))
            _, seed, place = heapq.heappop(self._running)
            self._num_ended += 1
            group = self._groups[seed]
            group.ended.append(place)
            if len(group.ended) == len(group.tokens):
                ended.append((seed, self._groups.pop(seed)))
            self._begin_waiting(end)
        if self._running:
            time.sleep(max(0.0, until - time.monotonic()))
        return ended

    def _begin_waiting(self, now: float) -> None:
        while self._waiting and len(self._running) < self._room:
            seed, place = self._waiting.popleft()
            takes = self._groups[seed].tokens[place] * self._lengths.token_seconds
            heapq.heappush(self._running, (now + takes, seed, place))

    def _draw(self, seed: int) -> SleepingGroup:
        draws = np.random.default_rng(seed)
        lengths = self._lengths
        tokens = lengths.median_tokens * np.exp(lengths.sigma * draws.normal(size=self._group_size))
        is_informative, is_right = draws.random(2) < (lengths.informative, 0.5)
        verdicts = draws.random(self._group_size) < 0.5 if is_informative else [is_right]
        return SleepingGroup(
            tokens=np.clip(tokens, 1, lengths.most_tokens).astype(int).tolist(),
            verdicts=np.broadcast_to(verdicts, self._group_size).tolist(),
        )

    def _summary(self, seed: int, group: SleepingGroup) -> GroupSummary:
        count = len(group.tokens)
        return GroupSummary(
            seed=seed,
            weights_version=0,
            prompt_tokens=100,
            response_tokens=tuple(group.tokens),
            loss_tokens=tuple(group.tokens),
            rewards=tuple(1.0 if right else -1.0 for right in group.verdicts),
            is_correct=tuple(group.verdicts),
            is_truncated=(False,) * count,
            reasons=("",) * count,
            predictions=("",) * count,
            components=({},) * count,
            num_turns=(1,) * count,
        )

    def assert_healthy(self) -> None:
        """See `EnvRunner.assert_healthy`."""

    def get_spaces(self) -> dict[str, Any]:
        """See `EnvRunner.get_spaces`."""
        space = TextSpace(100)
        return {DEFAULT_MODULE_ID: (space, space)}

    def make_env(self) -> None:
        """See `EnvRunner.make_env`: it has none."""

    def make_module(self) -> None:
        """See `EnvRunner.make_module`: it has none."""

    def sample(self, **kwargs: Any) -> Any:
        """See `EnvRunner.sample`: nobody asks for it."""
        raise NotImplementedError

    def stop(self) -> None:
        """See `EnvRunner.stop`."""


def _so_far(group: SleepingGroup) -> GroupSoFar:
    return GroupSoFar(
        rewards=tuple(1.0 if group.verdicts[place] else -1.0 for place in group.ended),
        is_correct=tuple(group.verdicts[place] for place in group.ended),
        unfinished=len(group.tokens) - len(group.ended),
    )
