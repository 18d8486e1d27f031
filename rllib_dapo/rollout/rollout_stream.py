"""Keeps EnvRunners at work on groups and brings each group back as soon as it has ended."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heapreplace
from itertools import count

from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_dapo.ray_internals import kill_env_runner, wait_for_one
from rllib_dapo.rollout.batch_rollout import Rates
from rllib_dapo.rollout.progress_watch import ProgressWatch, stalled
from rllib_dapo.rollout.rollout_result import RolloutFailure, RolloutResult

logger = logging.getLogger(__name__)

# RLlib lets one call of each of these be under way on an EnvRunner.
GO_ON, GIVE_UP = "rollout_goes_on", "rollout_given_up"
TAGS = (GO_ON, GIVE_UP)
# How long a call goes on: groups come back, and further ones go out, at least this often. To tell
# and be told takes some milliseconds, in which an engine rests; and the driver hears one EnvRunner
# after the other, so with many of them each is heard less often.
CALL_SECONDS, CALL_SECONDS_PER_ENV_RUNNER = 0.25, 0.02
POLL_SECONDS = 0.1
RESTART_SECONDS = 5.0

# Of calls and batches. EnvRunners may outlive a stream, so the next one goes on counting.
_NUMBERS = count(1)

# How many responses an EnvRunner is given, over what its engine samples at a time. What an engine
# has no room for only waits there, and could not go to another engine that becomes free; as much
# again keeps it full until the driver hears of it. Groups would be the wrong measure: of one that
# is under way most responses may have ended.
FULL = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A call under way.

    Attributes:
        tag: RLlib's tag; one call of each is under way on an EnvRunner.
        seeds: Prompt seeds that it brings.
        batch: The batch that they are for.
    """

    tag: str
    seeds: frozenset[int]
    batch: int


class RolloutStream:
    """Sends prompt seeds to an `EnvRunnerGroup`, one by one, and takes groups as they end.

    A seed always names the same problem, so work lost with an EnvRunner is simply sent again. Each
    call of an EnvRunner says what it has under way, so nothing is lost with one that was restarted
    without a word either.
    """

    def __init__(
        self,
        env_runner_group: EnvRunnerGroup,
        *,
        max_groups_in_flight: int,
        max_concurrent_responses: int,
        group_size: int,
        timeout_seconds: float | None,
        stall_seconds: float | None,
        may_restart: bool,
        restore_env_runners: Callable[[], None],
    ) -> None:
        """Wraps a group of EnvRunners.

        Args:
            env_runner_group: A group of `TextEnvRunner`s.
            max_groups_in_flight: Largest number of groups under way on one EnvRunner.
            max_concurrent_responses: Number of responses that an engine samples at a time.
            group_size: Number of responses in a group.
            timeout_seconds: Longest time from the beginning of a batch to its last group; None
                means no limit.
            stall_seconds: Longest time in which an EnvRunner may make no progress; None means no
                limit. One in the driver's process is not watched.
            may_restart: Whether Ray starts EnvRunners anew.
            restore_env_runners: Brings restarted EnvRunners back and gives them the current
                weights.
        """
        self._group = env_runner_group
        self._max_groups_in_flight = max_groups_in_flight
        self._full = FULL * max_concurrent_responses
        self._timeout_seconds = timeout_seconds
        self._watch = ProgressWatch(stall_seconds)
        self._may_restart = may_restart
        self._restore = restore_env_runners
        self._group_size = group_size
        # By EnvRunner: the seeds under way, those that it is to drop, the calls by number, and how
        # many responses were going on when one of them returned.
        self._open: defaultdict[int, set[int]] = defaultdict(set)
        self._dropped: defaultdict[int, set[int]] = defaultdict(set)
        self._calls: defaultdict[int, dict[int, Call]] = defaultdict(dict)
        self._open_responses: defaultdict[int, int] = defaultdict(int)
        self.begin_batch()

    def begin_batch(self, rates: Rates = None) -> None:
        """Begins with nothing under way; groups of an earlier batch will not come any more.

        Args:
            rates: How often the batch's prompts are visited; None visits all.
        """
        self._batch = next(_NUMBERS)
        self._waiting: deque[int] = deque()
        for of_each in (self._open, self._dropped, self._open_responses):
            of_each.clear()
        self.go_on(rates)

    def go_on(self, rates: Rates = None) -> None:
        """Begins to take again, with all that is under way; limits of time count from here.

        Args:
            rates: As for `begin_batch`.
        """
        self._rates = rates
        self._started = time.monotonic()
        self._watch.keep(())
        self._num_killed = 0
        self._used: set[int] = set()
        self._lost_one = False

    @property
    def has_lost(self) -> bool:
        """Whether an EnvRunner was lost since `go_on`, perhaps with groups it had sampled."""
        return self._lost_one or not self._used.issubset(self._group.healthy_env_runner_ids())

    def put(self, seeds: Iterable[int]) -> None:
        """Asks for groups, which `take` will bring.

        Args:
            seeds: Prompt seeds.
        """
        self._waiting.extend(seeds)

    def drop(self, seeds: Collection[int]) -> None:
        """Takes back what was asked for; `take` will not bring it, and EnvRunners give it up.

        Args:
            seeds: Prompt seeds. They may be put again.
        """
        if not seeds:
            return
        self._waiting = deque(seed for seed in self._waiting if seed not in seeds)
        for worker, open_seeds in self._open.items():
            self._dropped[worker] |= open_seeds.intersection(seeds)
            open_seeds.difference_update(seeds)

    def take(self, until: Callable[[], bool] | None = None) -> list[RolloutResult]:
        """Waits until groups have ended.

        Args:
            until: Once this is true, there is no more waiting. Where it is given, nobody waits for
                the groups: there is no limit of time, and EnvRunners that have died are not brought
                back.

        Returns:
            What has come; nothing if nothing is under way.

        Raises:
            TimeoutError: If `env_runners.sample_timeout_s` is set and passes.
            RuntimeError: If sampling raises on an EnvRunner: the same prompts would raise on any
                other. If one hangs, and starting it anew is not allowed or did not help.
            ray.exceptions.RayError: If an EnvRunner fails and
                `fault_tolerance.restart_failed_env_runners` is off.
        """
        if self._group.num_remote_env_runners() == 0:
            return self._take_here()

        while self._waiting or any(self._open.values()):
            if until is not None and until():
                break
            self._take_back_lost(may_restore=until is None)
            self._send()
            if until is None:
                self._check_time()
            self._end_hanging()
            if results := self._fetch():
                return results
        return []

    def give_up(self) -> None:
        """Has EnvRunners drop what is under way, and waits for none of them."""
        self._waiting.clear()
        self._batch = next(_NUMBERS)
        if self._group.num_remote_env_runners() == 0:
            if self._open[0] or self._dropped[0]:
                self._group.local_env_runner.advance([], batch=self._batch, seconds=0.0, call=0)
        else:
            for worker in [w for w, seeds in self._open.items() if seeds or self._dropped[w]]:
                self._call(worker, GIVE_UP, [], seconds=0.0)
        self._open.clear()
        self._dropped.clear()

    def sample(self, seeds: Sequence[int]) -> list[RolloutResult]:
        """Samples a group for each seed, for the batch under way.

        Args:
            seeds: Prompt seeds.

        Returns:
            The results in the order in which they arrived.

        Raises:
            TimeoutError: As `take`, like the other exceptions.
        """
        self.put(seeds)
        results: list[RolloutResult] = []
        missing = set(seeds)
        while missing:
            arrived = self.take()
            missing -= {group.summary.seed for result in arrived for group in result.groups}
            results += arrived
        return results

    def _take_here(self) -> list[RolloutResult]:
        """The same where the driver's own EnvRunner samples."""
        seeds: list[int] = []
        while self._waiting and self._has_room(0, self._load(0) + len(seeds) * self._group_size):
            seeds.append(seed := self._waiting.popleft())
            self._open[0].add(seed)
        if not self._open[0]:
            return []
        result = self._group.local_env_runner.advance(
            seeds,
            call=0,
            batch=self._batch,
            seconds=CALL_SECONDS,
            rates=self._rates,
            drop=self._dropped.pop(0, ()),
        )
        return [self._take_from(0, result)]

    def _take_back_lost(self, *, may_restore: bool) -> None:
        """Puts the seeds of EnvRunners that are no longer healthy first in the queue."""
        healthy = self._group.healthy_env_runner_ids()
        for worker in [worker for worker in self._open if worker not in healthy]:
            self._calls.pop(worker, None)
            self._open_responses.pop(worker, None)
            self._dropped.pop(worker, None)
            self._put_back(worker, self._open.pop(worker))
        if not healthy and may_restore:
            self._wait_for_env_runners()
        elif not healthy:
            time.sleep(POLL_SECONDS)

    def _put_back(self, worker: int, seeds: Iterable[int]) -> None:
        """Sends groups again that an EnvRunner will not bring."""
        lost = sorted(seeds)
        if lost:
            self._lost_one = True
            self._waiting.extendleft(reversed(lost))
            logger.warning("EnvRunner %d was lost; its %d prompts go out again", worker, len(lost))

    def _wait_for_env_runners(self) -> None:
        self._lost_one = True
        self._restore()
        if not self._group.healthy_env_runner_ids():
            logger.warning("no EnvRunner is alive; waiting for one to restart")
            time.sleep(RESTART_SECONDS)

    def _send(self) -> None:
        """Sends waiting seeds to those with the fewest open responses, and keeps all at work."""
        given: dict[int, list[int]] = {
            w: [] for w in self._group.healthy_env_runner_ids() if not self._is_called(w)
        }
        by_load = [(self._load(worker), worker) for worker in given]
        heapify(by_load)
        while self._waiting and by_load:
            load, worker = by_load[0]
            if not self._has_room(worker, load):
                heappop(by_load)
                continue
            given[worker].append(seed := self._waiting.popleft())
            self._open[worker].add(seed)
            heapreplace(by_load, (load + self._group_size, worker))

        healthy = self._group.num_healthy_remote_env_runners()
        seconds = max(CALL_SECONDS, CALL_SECONDS_PER_ENV_RUNNER * healthy)
        for worker, seeds in given.items():
            if self._open[worker] and not self._call(worker, GO_ON, seeds, seconds=seconds):
                self._waiting.extendleft(reversed(seeds))  # of one that has just been restarted
                self._open[worker] -= set(seeds)

    def _has_room(self, worker: int, load: int) -> bool:
        return len(self._open[worker]) < self._max_groups_in_flight and load < self._full

    def _is_called(self, worker: int) -> bool:
        return any(call.tag == GO_ON for call in self._calls[worker].values())

    def _load(self, worker: int) -> int:
        """How many open responses an EnvRunner will have."""
        on_the_way = sum(len(call.seeds) for call in self._calls[worker].values())
        return self._open_responses[worker] + on_the_way * self._group_size

    def _call(self, worker: int, tag: str, seeds: Sequence[int], *, seconds: float) -> bool:
        """Has an EnvRunner go on; RLlib does not call one with a call of this tag under way."""
        number = next(_NUMBERS)
        dropped = self._dropped.pop(worker, set())
        call = Call(tag=tag, seeds=frozenset(seeds), batch=self._batch)
        is_sent = self._group.foreach_env_runner_async(
            "try_advance",
            kwargs={
                "seeds": list(seeds),
                "call": number,
                "batch": self._batch,
                "seconds": seconds,
                "rates": self._rates,
                "drop": dropped,
            },
            tag=tag,
            remote_worker_ids=[worker],
        )
        if is_sent:
            self._calls[worker][number] = call
        else:
            self._dropped[worker] |= dropped
        return bool(is_sent)

    def _fetch(self) -> list[RolloutResult]:
        """Waits a little for a call to return, and reads what those that have returned bring."""
        wait_for_one(self._group, tags=TAGS, seconds=POLL_SECONDS)
        ready = self._group.fetch_ready_async_reqs(tags=TAGS, timeout_seconds=0.0)
        results = []
        for worker, result in sorted(ready, key=lambda one: one[1].call):
            call = self._calls[worker].pop(result.call, None)
            # Of a batch that has ended, or of an EnvRunner that was taken for lost.
            if call is None or call.batch != self._batch:
                continue
            if isinstance(result, RolloutFailure):
                raise RuntimeError(f"sampling failed on EnvRunner {worker}:\n{result.traceback}")
            self._used.add(worker)
            results.append(self._take_from(worker, result))
        return results

    def _take_from(self, worker: int, result: RolloutResult) -> RolloutResult:
        """Notes what an EnvRunner has under way; returns the result with the groups asked of it."""
        open_seeds = self._open[worker]
        groups = [group for group in result.groups if group.summary.seed in open_seeds]
        open_seeds -= {group.summary.seed for group in groups}

        calls = self._calls[worker]
        if not any(number < result.call for number in calls):
            self._open_responses[worker] = sum(g.unfinished for g in result.under_way.values())
            on_the_way = {seed for call in calls.values() for seed in call.seeds}
            lost = open_seeds - set(result.under_way) - on_the_way
            open_seeds -= lost
            self._put_back(worker, lost)

        self._watch.note(worker, result.progress)
        under_way = {s: group for s, group in result.under_way.items() if s in open_seeds}
        return replace(result, groups=groups, under_way=under_way)

    def _end_hanging(self) -> None:
        """Kills EnvRunners that hang; Ray starts them anew, and their seeds go out again.

        Raises:
            RuntimeError: If that did not help before, or is not allowed; one line.
        """
        self._watch.keep([worker for worker, seeds in self._open.items() if seeds])
        for worker, seconds in self._watch.hanging().items():
            line = stalled(f"EnvRunner {worker}", seconds, self._open[worker])
            most = max(2, self._group.num_remote_env_runners()) if self._may_restart else 0
            if self._num_killed >= most:
                before = f", after {self._num_killed} were started anew for that" if most else ""
                raise RuntimeError(
                    f"{line}{before}. rollout.stall_seconds={self._watch.limit_seconds:g} says how "
                    "long that may take; environment.env_config.verify_in=process bounds every "
                    "call of an environment"
                )
            logger.warning("%s; it is started anew", line)
            self._num_killed += 1
            self._watch.forget(worker)  # until its call has failed
            kill_env_runner(self._group, worker)

    def _check_time(self) -> None:
        if self._timeout_seconds is None:
            return
        if time.monotonic() - self._started > self._timeout_seconds:
            at_work = sorted(worker for worker, seeds in self._open.items() if seeds)
            raise TimeoutError(
                f"sampling took over env_runners.sample_timeout_s={self._timeout_seconds} s; "
                f"EnvRunners still at work: {at_work}. Raise it, or lower "
                "rollout.max_response_tokens."
            )
