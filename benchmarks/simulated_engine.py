"""An engine that takes the time of one on a GPU and computes nothing.

It draws the length of each response from a long-tailed distribution, decodes all open responses
side by side, and sleeps as long as a step of decoding takes. Everything around it is real: the
EnvRunner that it sits in, the environment, the driver, Ray.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo.rollout.engine import Completion, Engine, FinishedResponse, Request
from rllib_dapo.rollout.env_runner import TextEnvRunner
from rllib_dapo.weight_checksums import BlockPart, WeightBlock


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast an engine is, and how long responses get.

    Attributes:
        step_seconds: Seconds of a step of decoding, which gives every open response a token.
        response_seconds: What each open response adds to it.
        median_tokens: Median length of a response.
        sigma: Standard deviation of the logarithm of lengths; at 1, one in a hundred is ten times
            as long as the median.
        long_prompt: Length of a prompt, in tokens, from which on responses are four times as long.
    """

    step_seconds: float = 0.005
    response_seconds: float = 0.00005
    median_tokens: float = 80.0
    sigma: float = 1.0
    long_prompt: float = math.inf


class SimulatedEngine(Engine):
    """Decodes up to a number of responses at a time, in the order in which they were asked for."""

    def __init__(self, *, max_num_seqs: int, vocabulary: int, pace: Pace) -> None:
        """Begins idle.

        Args:
            max_num_seqs: Number of responses at a time.
            vocabulary: Number of tokens to draw from.
            pace: How fast it is.
        """
        self._max_num_seqs = max_num_seqs
        self._vocabulary = vocabulary
        self._pace = pace
        self._waiting: deque[tuple[int, int, Completion]] = deque()
        # Tokens left, key, index, completion, and what each version of the weights began with.
        self._running: list[list[Any]] = []
        self._version = 0
        self.num_tokens = 0  # decoded so far, those of aborted responses included

    def add(self, request: Request) -> None:
        """See `Engine.add`. A response depends on its seed, and its length on the prompt's."""
        is_long = len(request.prompt_ids) >= self._pace.long_prompt
        for index in request.wanted:
            draws = np.random.default_rng([request.seed, index])
            median = self._pace.median_tokens * (4 if is_long else 1)
            length = median * np.exp(self._pace.sigma * draws.normal())
            tokens = int(min(max(1.0, length), request.sampling.max_tokens))
            completion = Completion(
                token_ids=draws.integers(0, self._vocabulary, size=tokens).astype(np.int32),
                logprobs=np.full(tokens, -1.0, dtype=np.float32),
                finish_reason="length" if tokens == request.sampling.max_tokens else "stop",
            )
            self._waiting.append((request.key, index, completion))

    def note_version(self, version: int) -> None:
        """See `Engine.note_version`."""
        self._version = version

    def step(self) -> list[FinishedResponse]:
        """See `Engine.step`: one token for each of the open responses."""
        while self._waiting and len(self._running) < self._max_num_seqs:
            key, index, completion = self._waiting.popleft()
            self._running.append([len(completion.token_ids), key, index, completion, []])
        time.sleep(self._pace.step_seconds + self._pace.response_seconds * len(self._running))

        self.num_tokens += len(self._running)
        for response in self._running:
            left, *_, completion, starts = response
            if not starts or starts[-1][1] != self._version:
                starts.append((len(completion.token_ids) - left, self._version))
            response[0] -= 1
        ended = [response for response in self._running if not response[0]]
        self._running = [response for response in self._running if response[0]]
        return [
            FinishedResponse(
                key=key,
                index=index,
                completion=replace(completion, version_starts=tuple(starts)),
            )
            for _, key, index, completion, starts in ended
        ]

    @property
    def is_idle(self) -> bool:
        """See `Engine.is_idle`."""
        return not self._waiting and not self._running

    def load_weights(self, weights: Iterable[Any]) -> None:
        """See `Engine.load_weights`: they are fetched, and that is all."""
        for _ in weights:
            pass

    def weight_checksums(self, blocks: Sequence[WeightBlock]) -> list[BlockPart]:
        """See `Engine.weight_checksums`: nothing can be compared."""
        return []

    def abort(self, keys: Collection[int] | None = None) -> None:
        """See `Engine.abort`."""
        self._waiting = deque(r for r in self._waiting if keys is not None and r[0] not in keys)
        self._running = [r for r in self._running if keys is not None and r[1] not in keys]

    def close(self) -> None:
        """See `Engine.close`."""
        self.abort()


@dataclass
class SimulatedModule:
    """Stands where an EnvRunner has its RLModule."""

    engine: SimulatedEngine

    def close(self) -> None:
        """Closes the engine."""
        self.engine.close()


class SimulatedRunner(TextEnvRunner):
    """A `TextEnvRunner` with such an engine; its pace is `env_config["pace"]`."""

    def make_module(self) -> None:
        """See `TextEnvRunner.make_module`."""
        engine = SimulatedEngine(
            max_num_seqs=self.config.max_concurrent_responses,
            vocabulary=len(self.tokenizer),
            pace=Pace(**self.config.env_config.get("pace", {})),
        )
        self.module = {DEFAULT_MODULE_ID: SimulatedModule(engine)}
        self._engine_started = datetime.now(UTC).isoformat()

    @property
    def engine_facts(self) -> dict[str, Any]:
        """See `TextEnvRunner.engine_facts`."""
        return {"pid": os.getpid(), "started": self._engine_started}
