"""Dynamic sampling as a stream of groups, against rounds that wait for their slowest response.

A task of which a quarter of the problems is hopeless and a quarter trivial, in no order; responses
of long-tailed lengths; two EnvRunners with simulated engines (see `simulated_engine.py`); all else
is real. These take turns, step by step, over the same prompts:

- rounds: as many prompts as the last acceptance rate asks for, cut over the EnvRunners beforehand,
  then the next round, until the batch is full;
- the stream: a group that will probably be dropped is replaced while it is still under way;
- the stream with prompt memory (`dynamic_sampling.prompt_memory: information`);
- a stream that knows beforehand which prompts the batch will need, and asks for those at once:
  what remains is the time of the longest responses, which no order of asking can do without.

A last one has one EnvRunner alone: its batches must be those of the stream, token for token.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import ray
from batches import batch_source, running
from common import Side, report, timed
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.tune import register_env
from simulated_engine import SimulatedRunner

from rllib_dapo import DAPOConfig
from rllib_dapo.core import GroupSummary
from rllib_dapo.envs import TextSpace
from rllib_dapo.rollout.group_decisions import Decision, decide
from rllib_dapo.rollout.make_stream import make_requests, make_stream
from rllib_dapo.rollout.rollout_result import SampledGroup

PROBLEMS, PROMPTS, RESPONSES, STEPS, BLOCK, COMPARED = 48, 8, 8, 33, 8, 6
# Where a problem is neither hopeless nor trivial. A model knows most problems well or hardly.
LIKELY, UNLIKELY = 7 / 8, 1 / 8
MOST_SECONDS, MOST_TOKENS, MOST_TOKENS_WITH_MEMORY = 0.7, 1.0, 0.6


class MixedTask(gym.Env):
    """Problems in no order, over and over; what is right follows from a hash."""

    observation_space = TextSpace(100)
    action_space = TextSpace(100_000)

    def __init__(self, config: Any = None) -> None:
        """Takes no settings."""
        self._problem = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Poses the problem of a seed."""
        self._problem = int(_fraction(f"problem {seed}") * PROBLEMS)
        return f"{self._problem}", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Judges a response."""
        chance = (0.0, 1.0, UNLIKELY, LIKELY)[self._problem % 4]
        is_correct = _fraction(action) < chance
        return "", 1.0 if is_correct else -1.0, True, False, {"is_correct": is_correct}


def _fraction(text: str) -> float:
    """A number in [0, 1) that follows from a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32


register_env("mixed_task", MixedTask)


@dataclass
class Rounds:
    """The other side's decisions: the size of a round, and which of its groups fill the batch."""

    next_seed: int
    acceptance_rate: float
    accepted: list[GroupSummary] = field(default_factory=list)
    decisions: Counter[Decision] = field(default_factory=Counter)

    def next_round(self) -> range:
        """As many prompts as will probably fill the batch, at most three times as many."""
        factor = min(1 / self.acceptance_rate, 3.0) if self.acceptance_rate else 3.0
        count = math.ceil((PROMPTS - len(self.accepted)) * factor)
        seeds = range(self.next_seed, self.next_seed + count)
        self.next_seed = seeds.stop
        return seeds

    def offer(self, groups: Sequence[GroupSummary]) -> None:
        """Decides on a round, in the order of seeds."""
        for group in sorted(groups, key=lambda one: one.seed):
            decision = decide(group)
            self.decisions[decision] += 1
            if decision is Decision.ACCEPTED and len(self.accepted) < PROMPTS:
                self.accepted.append(group)
                if len(self.accepted) == PROMPTS:
                    self.next_seed = group.seed + 1
        self.acceptance_rate = self.decisions[Decision.ACCEPTED] / self.decisions.total()


@dataclass
class Figures:
    """What the steps of a side cost, and their batches."""

    seconds: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)

    def mean_tokens(self, steps: slice) -> float:
        """Sampled tokens per accepted group."""
        return statistics.mean(self.tokens[steps])


def make_config(num_env_runners: int) -> DAPOConfig:
    """The task with simulated engines."""
    return (
        DAPOConfig()
        .environment("mixed_task", env_config={"pace": {}})
        .language_model("tiny", dtype="float32")
        .rollout(max_prompt_tokens=64, max_response_tokens=800, max_concurrent_responses=128)
        .training(
            group_size=RESPONSES, prompts_per_step=PROMPTS, minibatch_size=PROMPTS * RESPONSES
        )
        .overlong(buffer_tokens=0)
        .env_runners(num_env_runners=num_env_runners, env_runner_cls=SimulatedRunner)
        .fault_tolerance(restart_failed_env_runners=False)
    )


class StreamSide:
    """The stream, over some EnvRunners."""

    def __init__(self, runners: EnvRunnerGroup, config: DAPOConfig) -> None:
        """Begins with the first prompt."""
        self._runners = runners
        self._source = batch_source(runners, config)
        self.figures = Figures()
        self.groups: Mapping[int, SampledGroup] = {}

    def step(self) -> None:
        """Fills a batch, as `DAPO` does."""
        before = num_tokens(self._runners)
        seconds, batch = timed(lambda: self._source.fill(version=0))
        accepted, self.groups = batch.sampler.accepted, batch.groups
        self.figures.seconds.append(seconds)
        self.figures.tokens.append((num_tokens(self._runners) - before) / len(accepted))
        self.figures.batches.append([summary.seed for summary in accepted])

    def texts(self) -> list[list[str]]:
        """All responses of the last batch."""
        batch = self.figures.batches[-1]
        return [[r.text for r in self.groups[seed].group().responses] for seed in batch]


class KnowingSide:
    """A stream that asks for exactly the prompts that a batch needs, at once."""

    def __init__(self, runners: EnvRunnerGroup, config: DAPOConfig) -> None:
        """Begins with the first prompt."""
        self._runners = runners
        self._stream = make_stream(runners, config, lambda: None)
        self._next_seed = 0
        self.figures = Figures()

    def step(self, batch: list[int]) -> None:
        """Samples a batch that another side has filled.

        Args:
            batch: Seeds of its groups.
        """
        before = num_tokens(self._runners)
        seeds = range(self._next_seed, batch[-1] + 1)
        self._stream.begin_batch()
        self.figures.seconds.append(timed(lambda: self._stream.sample(seeds))[0])
        self._stream.give_up()
        self.figures.tokens.append((num_tokens(self._runners) - before) / len(batch))
        self.figures.batches.append(batch)
        self._next_seed = seeds.stop


class RoundsSide:
    """Rounds, over some EnvRunners."""

    def __init__(self, runners: EnvRunnerGroup, config: DAPOConfig) -> None:
        """Begins with the first prompt."""
        self._runners = runners
        self._requests = make_requests(runners, config, lambda: None)
        self._next_seed, self._rate = 0, 1.0
        self.figures = Figures()

    def step(self) -> None:
        """Fills a batch."""
        rounds = Rounds(next_seed=self._next_seed, acceptance_rate=self._rate)
        before = num_tokens(self._runners)

        def fill() -> None:
            while len(rounds.accepted) < PROMPTS:
                results = self._requests.sample(rounds.next_round())
                rounds.offer([group.summary for result in results for group in result.groups])

        self.figures.seconds.append(timed(fill)[0])
        self.figures.tokens.append((num_tokens(self._runners) - before) / PROMPTS)
        self.figures.batches.append([group.seed for group in rounds.accepted])
        self._next_seed, self._rate = rounds.next_seed, rounds.acceptance_rate


def num_tokens(runners: EnvRunnerGroup) -> int:
    """Number of tokens that the engines have decoded, those of aborted responses included."""
    return sum(
        runners.foreach_env_runner(
            lambda runner: runner.module[DEFAULT_MODULE_ID].engine.num_tokens,
            local_env_runner=False,
        )
    )


def main(steps: int) -> None:
    """Runs all sides in turn.

    Args:
        steps: Number of steps of each; the first one warms up.
    """
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with ExitStack() as stack:
        two, one = make_config(2), make_config(1)
        pair, alone = (stack.enter_context(running(config)) for config in (two, one))
        remembering = make_config(2).dynamic_sampling(prompt_memory="information")
        sides = {
            "rounds": RoundsSide(pair, two),
            "stream": StreamSide(pair, two),
            "memory": StreamSide(pair, remembering),
        }
        knowing, single, equal = KnowingSide(pair, two), StreamSide(alone, one), True
        for number in range(steps):
            for side in sides.values():
                side.step()
            knowing.step(sides["stream"].figures.batches[-1])
            if number < COMPARED:
                single.step()
                equal &= single.texts() == sides["stream"].texts()
            figures = {name: side.figures for name, side in sides.items()}
            figures["knowing"] = knowing.figures
            told = ", ".join(f"{name} {f.seconds[-1]:.2f} s" for name, f in figures.items())
            print(f"step {number + 1} of {steps}: {told}", flush=True)
    ray.shutdown()
    write(figures, single.figures, equal=equal)


def write(sides: dict[str, Figures], single: Figures, *, equal: bool) -> None:
    """Prints and writes the figures; the first step of each side warms up."""
    later = slice(1, None)
    rounds, stream, memory, knowing = sides.values()
    same = equal and single.batches == stream.batches[:COMPARED] == rounds.batches[:COMPARED]
    full = all(len(batch) == PROMPTS for figures in sides.values() for batch in figures.batches)

    def seconds(figures: Figures) -> list[float]:
        """Means over blocks of steps: a step takes one wave of responses, or two."""
        every = figures.seconds[later]
        return [statistics.mean(every[i : i + BLOCK]) for i in range(0, len(every), BLOCK)]

    ratio = 1 / MOST_SECONDS

    def tokens(figures: Figures) -> float:
        return figures.mean_tokens(later) / rounds.mean_tokens(later)

    report(
        "dynamic_sampling",
        ours=Side(label="stream", unit="s per step", values=seconds(stream)),
        other=Side(label="rounds", unit="s per step", values=seconds(rounds)),
        target=ratio,
        higher_is_better=False,
        also={
            "tokens per accepted group, over those of rounds": (tokens(stream), MOST_TOKENS),
            "the same with prompt memory": (tokens(memory), MOST_TOKENS_WITH_MEMORY),
            "batches that differ from one EnvRunner's, or are not full": (
                float(not same or not full),
                0.0,
            ),
        },
        task=f"{PROBLEMS} problems, a quarter hopeless and a quarter trivial",
        prompts=PROMPTS,
        responses=RESPONSES,
        steps=len(stream.seconds),
        seconds_over_those_of_knowing_beforehand=round(
            statistics.mean(stream.seconds[later]) / statistics.mean(knowing.seconds[later]), 3
        ),
        mean_seconds={
            name: round(statistics.mean(s.seconds[later]), 3) for name, s in sides.items()
        },
        tokens_per_accepted_group={
            name: round(s.mean_tokens(later), 1) for name, s in sides.items()
        },
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
