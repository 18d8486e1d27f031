"""A rollout that grows: prompt seeds in and groups out, while other groups are being sampled."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from rllib_dapo.core.prompt_key import prompt_key
from rllib_dapo.core.types import PromptGroup, Response
from rllib_dapo.rollout.env_stepper import EnvStepper
from rllib_dapo.rollout.group_so_far import GroupSoFar
from rllib_dapo.rollout.prompt_memory import VisitRates
from rllib_dapo.rollout.rollout_loop import Prompt, RolloutLoop

# Reads what resets gave: each prompt as text and as token ids.
Read = Callable[[Sequence[int]], list[tuple[str, Prompt]]]


class OpenRollout:
    """Samples groups for prompt seeds that are added as it goes on.

    Attributes:
        weights_version: Version of the weights that sample.
        visit_rates: How often prompts are visited; None visits all.
    """

    def __init__(
        self,
        loop: RolloutLoop,
        env_stepper: EnvStepper,
        *,
        read: Read,
        max_prompt_tokens: int,
        weights_version: int,
        visit_rates: VisitRates | None = None,
    ) -> None:
        """Begins a rollout, with nothing in it.

        Args:
            loop: Samples and scores, with an idle engine.
            env_stepper: Steps the loop's environments.
            read: Reads the prompts of seeds.
            max_prompt_tokens: The setting. A longer prompt, and one that the environment did not
                give, has a group without responses: the driver counts and drops it.
            weights_version: Version of the engine's weights.
            visit_rates: How often prompts are visited; one that is not has a group without
                responses, too. None visits all.
        """
        self._loop = loop
        self._env_stepper = env_stepper
        self._read = read
        self._max_prompt_tokens = max_prompt_tokens
        self.weights_version = weights_version
        self.visit_rates = visit_rates

        self._open: dict[int, tuple[str, Prompt]] = {}  # by the loop's numbers
        self._ended: list[PromptGroup] = []  # not handed out yet
        self._seconds = self._engine_seconds = 0.0  # not told yet

    @property
    def is_idle(self) -> bool:
        """Whether no group is under way, and none is to be handed out."""
        return not self._open and not self._ended

    @property
    def has_ended(self) -> bool:
        """Whether there are groups to be handed out."""
        return bool(self._ended)

    @property
    def progress(self) -> int:
        """See `RolloutLoop.progress`."""
        return self._loop.progress

    def under_way(self) -> dict[int, GroupSoFar]:
        """What is known of the groups under way, by prompt seed."""
        so_far = self._loop.so_far()
        return {prompt.seed: so_far[number] for number, (_, prompt) in self._open.items()}

    def add(self, seeds: Sequence[int]) -> None:
        """Asks for groups.

        Args:
            seeds: Prompt seeds; one that is under way already stays as it is.
        """
        under_way = {prompt.seed for _, prompt in self._open.values()}
        seeds = [seed for seed in seeds if seed not in under_way]
        if not seeds:
            return
        read = self._read(seeds)  # a prompt is tokenized once for its whole group
        with self._timed():
            skipped = {prompt.seed for _, prompt in read if self._skips(prompt)}
            fits = [
                not prompt.lost
                and len(prompt.token_ids) <= self._max_prompt_tokens
                and prompt.seed not in skipped
                for _, prompt in read
            ]
            sampled = [one for one, fit in zip(read, fits, strict=True) if fit]
            numbers = self._loop.add([prompt for _, prompt in sampled])
            self._open |= dict(zip(numbers, sampled, strict=True))

        for one, fit in zip(read, fits, strict=True):
            if not fit:
                self._end(one, (), skipped=one[1].seed in skipped)

    def advance(self, *, most_seconds: float = math.inf) -> list[PromptGroup]:
        """Goes on a little.

        Args:
            most_seconds: Longest time to wait for environments where there is nothing to sample.

        Returns:
            Groups that have ended; perhaps none.
        """
        if not self._ended:
            with self._timed():
                for number, responses in self._loop.advance(most_seconds=most_seconds).items():
                    self._end(self._open.pop(number), responses)
        ended, self._ended = self._ended, []
        return ended

    def run(self, seeds: Sequence[int]) -> list[PromptGroup]:
        """Samples groups, and waits for all of them.

        Args:
            seeds: Prompt seeds.

        Returns:
            The groups, in the order of the seeds.
        """
        self.add(seeds)
        groups: dict[int, PromptGroup] = {}
        while not self.is_idle:
            groups |= {group.seed: group for group in self.advance()}
        return [groups[seed] for seed in seeds]

    def give_up(self) -> None:
        """Drops all groups that are under way, or have not been handed out."""
        self.drop({prompt.seed for _, prompt in self._open.values()})
        self._ended = []

    def drop(self, seeds: Collection[int]) -> None:
        """Drops some of the groups that are under way.

        Args:
            seeds: Their prompt seeds; one that has ended, or was never asked for, is left out.
        """
        dropped = {n: prompt.seed for n, (_, prompt) in self._open.items() if prompt.seed in seeds}
        self._loop.give_up(dropped)
        self._env_stepper.forget(list(dropped.values()))
        self._open = {n: read for n, read in self._open.items() if n not in dropped}

    def _skips(self, prompt: Prompt) -> bool:
        if self.visit_rates is None or prompt.lost:
            return False
        key = prompt_key(np.asarray(prompt.token_ids, dtype=np.int32))
        return not self.visit_rates.visits(key, prompt.seed)

    def _end(
        self,
        read: tuple[str, Prompt],
        responses: tuple[Response, ...],
        *,
        skipped: bool = False,
    ) -> None:
        text, prompt = read
        self._env_stepper.forget([prompt.seed])
        versions = [version for one in responses for _, version in one.version_starts]
        self._ended.append(
            PromptGroup(
                seed=prompt.seed,
                prompt=text,
                prompt_ids=np.asarray(prompt.token_ids, dtype=np.int32),
                responses=responses,
                weights_version=min(versions, default=self.weights_version),
                lost=prompt.lost,
                skipped=skipped,
            )
        )

    def take_seconds(self) -> tuple[float, float]:
        """Seconds in the engine, and in environments or waiting for them, since this was asked."""
        engine = self._engine_seconds
        other = self._seconds - engine
        self._seconds = self._engine_seconds = 0.0
        return engine, other

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started, before = time.perf_counter(), self._loop.engine_seconds
        yield
        self._seconds += time.perf_counter() - started
        self._engine_seconds += self._loop.engine_seconds - before
