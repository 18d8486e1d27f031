"""Sends prompt seeds to EnvRunners and brings groups back, whatever becomes of an EnvRunner on the way."""

from __future__ import annotations

import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import ray
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_dapo.core.batching import split_evenly
from rllib_dapo.core.types import GroupSummary, PromptGroup

if TYPE_CHECKING:
    from rllib_dapo.rollout.env_runner import TextEnvRunner

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1
RESTART_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledGroup:
    """A group as the driver holds it: the summary, and the tokens or a reference to them."""

    summary: GroupSummary
    data: ray.ObjectRef | PromptGroup

    def group(self) -> PromptGroup:
        """The group itself, fetched if need be."""
        return ray.get(self.data) if isinstance(self.data, ray.ObjectRef) else self.data


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutResult:
    """What one EnvRunner brings back, and how long generation and scoring took there, in seconds."""

    groups: list[SampledGroup]
    generation_seconds: float
    scoring_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutFailure:
    """What an EnvRunner brings back instead, when sampling raised there: the traceback, as text."""

    traceback: str


def split_seeds(
    seeds: Sequence[int], *, num_runners: int, max_groups_in_flight: int
) -> list[list[int]]:
    """Cuts seeds into requests: one per runner where that keeps within `max_groups_in_flight` groups per request."""
    requests = max(min(num_runners, len(seeds)), -(-len(seeds) // max_groups_in_flight))
    return split_evenly(seeds, requests)


class RolloutStream:
    """Dispatch of prompt seeds to an `EnvRunnerGroup`.

    A seed names its problem for good, so work lost with an EnvRunner is simply issued again.
    """

    def __init__(
        self,
        env_runner_group: EnvRunnerGroup,
        *,
        max_groups_in_flight: int,
        timeout_seconds: float | None,
        restore_env_runners: Callable[[], None],
    ) -> None:
        """Wraps a group.

        Args:
            env_runner_group: Whose EnvRunners are `TextEnvRunner`s.
            max_groups_in_flight: Bound on groups under way on one EnvRunner.
            timeout_seconds: Longest wait for one call of `sample`; None waits as long as it takes.
            restore_env_runners: Brings restarted EnvRunners back and gives them the current
                weights.
        """
        self._group = env_runner_group
        self._max_groups_in_flight = max_groups_in_flight
        self._timeout_seconds = timeout_seconds
        self._restore = restore_env_runners
        self._tags = (f"sample_groups_{n}" for n in count())

    def sample(self, seeds: Sequence[int], *, evaluation: bool = False) -> list[RolloutResult]:
        """Samples a group for each seed.

        Args:
            seeds: Prompt seeds.
            evaluation: See `TextEnvRunner.sample_groups`.

        Raises:
            TimeoutError: If `sample_timeout_s` is set and passes.
            RuntimeError: If sampling raises on an EnvRunner: the same prompts would raise on any
            other. ray.exceptions.RayError: If an EnvRunner fails and
            `fault_tolerance.restart_failed_env_runners` is off.
        """
        if not seeds:
            return []
        runners = max(1, self._group.num_remote_env_runners())
        requests = split_seeds(
            seeds, num_runners=runners, max_groups_in_flight=self._max_groups_in_flight
        )
        return list(self.results(requests, evaluation=evaluation))

    def results(
        self, requests: Sequence[Sequence[int]], *, evaluation: bool = False
    ) -> Iterator[RolloutResult]:
        """Samples requests that are cut already, each on one EnvRunner, in one call of its `sample_groups`.

        Args:
            requests: Prompt seeds of each request; at least one.
            evaluation: See `TextEnvRunner.sample_groups`.

        Yields:
            The results as they come in.

        Raises:
            TimeoutError: As `sample`; so are the others.
        """
        if self._group.num_remote_env_runners() == 0:
            local = self._group.local_env_runner
            return (local.sample_groups(request, evaluation=evaluation) for request in requests)
        return self._sample_remotely(deque(list(request) for request in requests), evaluation)

    def _sample_remotely(
        self, pending: deque[list[int]], evaluation: bool
    ) -> Iterator[RolloutResult]:
        started = time.monotonic()
        # A tag of its own keeps this call's answers apart from those to a call that was given up.
        tag = next(self._tags)
        in_flight: dict[int, list[int]] = {}
        while pending or in_flight:
            healthy = self._group.healthy_env_runner_ids()
            for worker in [w for w in in_flight if w not in healthy]:
                logger.warning(
                    "EnvRunner %d was lost; its %d prompts go to another",
                    worker,
                    len(in_flight[worker]),
                )
                pending.appendleft(in_flight.pop(worker))
            for worker in healthy:
                if pending and worker not in in_flight:
                    in_flight[worker] = pending.popleft()
                    self._send(worker, in_flight[worker], evaluation, tag)
            if not in_flight:
                self._wait_for_env_runners()
            for worker, result in self._group.fetch_ready_async_reqs(
                tags=tag, timeout_seconds=POLL_SECONDS
            ):
                if isinstance(result, RolloutFailure):
                    raise RuntimeError(
                        f"sampling failed on EnvRunner {worker}:\n{result.traceback}"
                    )
                if in_flight.pop(worker, None) is not None:
                    yield result
            self._check_time(started, pending, in_flight)

    def _send(self, worker: int, seeds: list[int], evaluation: bool, tag: str) -> None:
        self._group.foreach_env_runner_async(
            lambda runner: sample_or_tell(runner, seeds, evaluation=evaluation),
            tag=tag,
            remote_worker_ids=[worker],
        )

    def _wait_for_env_runners(self) -> None:
        self._restore()
        if not self._group.healthy_env_runner_ids():
            logger.warning("no EnvRunner is alive; waiting for one to restart")
            time.sleep(RESTART_SECONDS)

    def _check_time(
        self, started: float, pending: deque[list[int]], in_flight: dict[int, list[int]]
    ) -> None:
        waited = time.monotonic() - started
        if (
            (pending or in_flight)
            and self._timeout_seconds is not None
            and waited > self._timeout_seconds
        ):
            raise TimeoutError(
                f"sampling took over env_runners.sample_timeout_s={self._timeout_seconds} s; EnvRunners still at work: "
                f"{sorted(in_flight)}. Raise it, or lower rollout.max_response_tokens."
            )


def sample_or_tell(
    runner: TextEnvRunner, seeds: Sequence[int], *, evaluation: bool
) -> RolloutResult | RolloutFailure:
    """Samples on an EnvRunner's own process, and brings an exception back as a value.

    Raised there, RLlib would take it for a dead actor: it would restart the EnvRunner and its
    engine, the same prompts would go out again, and the cause would stand in some log.
    """
    try:
        return runner.sample_groups(seeds, evaluation=evaluation)
    except Exception:
        return RolloutFailure(traceback=traceback.format_exc())
