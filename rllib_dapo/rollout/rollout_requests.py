"""Requests for several groups each, which EnvRunners answer whole: for evaluation."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_dapo.core.batching import split_evenly
from rllib_dapo.rollout.rollout_result import RolloutFailure, RolloutResult

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1
RESTART_SECONDS = 5.0
# How often a request may be lost with its EnvRunner before it is taken for the cause.
MOST_LOST = 2


def split_seeds(
    seeds: Sequence[int], *, num_runners: int, max_groups_in_flight: int
) -> list[list[int]]:
    """Cuts seeds into requests: one per runner, or more where a request would be too large.

    Args:
        seeds: Prompt seeds; their order is kept.
        num_runners: Number of EnvRunners to keep busy.
        max_groups_in_flight: Largest number of groups in a request.
    """
    num_requests = max(min(num_runners, len(seeds)), -(-len(seeds) // max_groups_in_flight))
    return split_evenly(seeds, num_requests)


class RolloutRequests:
    """Dispatches requests to an `EnvRunnerGroup`, one at a time to each EnvRunner.

    The responses to a request depend on it alone. A seed always names the same problem, so a
    request that is lost with an EnvRunner is simply sent again.
    """

    def __init__(
        self,
        env_runner_group: EnvRunnerGroup,
        *,
        max_groups_in_flight: int,
        timeout_seconds: float | None,
        restore_env_runners: Callable[[], None],
        while_waiting: Callable[[], None] | None = None,
    ) -> None:
        """Wraps a group of EnvRunners.

        Args:
            env_runner_group: A group of `TextEnvRunner`s.
            max_groups_in_flight: Largest number of groups under way on one EnvRunner.
            timeout_seconds: Longest time that one call of `sample` may take; None means no limit.
            restore_env_runners: Brings restarted EnvRunners back and gives them the current
                weights.
            while_waiting: Called again and again while remote EnvRunners are at work.
        """
        self._group = env_runner_group
        self._max_groups_in_flight = max_groups_in_flight
        self._timeout_seconds = timeout_seconds
        self._restore = restore_env_runners
        self._while_waiting = while_waiting
        self._tags = (f"sample_groups_{n}" for n in count())

    def sample(self, seeds: Sequence[int], *, evaluation: bool = False) -> list[RolloutResult]:
        """Samples a group for each seed.

        Args:
            seeds: Prompt seeds.
            evaluation: See `TextEnvRunner.sample_groups`.

        Returns:
            The results in the order in which they arrived.

        Raises:
            TimeoutError: If `env_runners.sample_timeout_s` is set and passes.
            RuntimeError: If sampling raises on an EnvRunner, or if several in a row die of the same
                prompts. These would raise, or kill, on any other, too.
            ray.exceptions.RayError: If an EnvRunner fails and
                `fault_tolerance.restart_failed_env_runners` is off.
        """
        if not seeds:
            return []

        requests = split_seeds(
            seeds,
            num_runners=max(1, self._group.num_remote_env_runners()),
            max_groups_in_flight=self._max_groups_in_flight,
        )
        return list(self.results(requests, evaluation=evaluation))

    def results(
        self, requests: Sequence[Sequence[int]], *, evaluation: bool = False
    ) -> Iterator[RolloutResult]:
        """Samples requests that are cut already, each in one call of `sample_groups`.

        Args:
            requests: Prompt seeds of each request, at least one.
            evaluation: See `TextEnvRunner.sample_groups`.

        Yields:
            The results as they arrive.

        Raises:
            TimeoutError: As `sample`, like the other exceptions.
        """
        if self._group.num_remote_env_runners() == 0:
            local = self._group.local_env_runner
            return (local.sample_groups(request, evaluation=evaluation) for request in requests)
        return self._sample_remotely(deque(list(request) for request in requests), evaluation)

    def _sample_remotely(
        self, pending: deque[list[int]], evaluation: bool
    ) -> Iterator[RolloutResult]:
        started = time.monotonic()
        # A tag of its own tells this call's results from those of a call that was given up.
        tag = next(self._tags)
        in_flight: dict[int, list[int]] = {}
        times_lost: Counter[int] = Counter()  # by the first seed of a request

        while pending or in_flight:
            healthy = self._group.healthy_env_runner_ids()
            self._take_back_lost(healthy, pending, in_flight, times_lost)

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
                # A result of an EnvRunner that was taken for lost: its request is under way again.
                if in_flight.pop(worker, None) is None:
                    continue
                yield result

            if self._while_waiting is not None:
                self._while_waiting()
            self._check_time(started, pending, in_flight)

    def _take_back_lost(
        self,
        healthy: Sequence[int],
        pending: deque[list[int]],
        in_flight: dict[int, list[int]],
        times_lost: Counter[int],
    ) -> None:
        """Puts the requests of EnvRunners that are no longer healthy first in the queue."""
        for worker in [worker for worker in in_flight if worker not in healthy]:
            logger.warning(
                "EnvRunner %d was lost; its %d prompts go to another",
                worker,
                len(in_flight[worker]),
            )
            pending.appendleft(seeds := in_flight.pop(worker))
            times_lost[seeds[0]] += 1
            if times_lost[seeds[0]] > MOST_LOST:
                raise RuntimeError(
                    f"{times_lost[seeds[0]]} EnvRunners in a row were lost with the prompts "
                    f"{seeds[:8]}: one of them kills its process, or hangs for longer than "
                    "rollout.stall_seconds. environment.env_config.verify_in=process bounds every "
                    "call of an environment"
                )

    def _send(self, worker: int, seeds: list[int], evaluation: bool, tag: str) -> None:
        self._group.foreach_env_runner_async(
            "try_sample_groups",
            kwargs={"seeds": seeds, "evaluation": evaluation},
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
        if self._timeout_seconds is None or not (pending or in_flight):
            return

        if time.monotonic() - started > self._timeout_seconds:
            raise TimeoutError(
                f"sampling took over env_runners.sample_timeout_s={self._timeout_seconds} s; "
                f"EnvRunners still at work: {sorted(in_flight)}. Raise it, or lower "
                "rollout.max_response_tokens."
            )
