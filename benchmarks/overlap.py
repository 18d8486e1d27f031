"""A training step in which EnvRunners sample while Learners train, against one that takes turns.

Engines and the Learner are simulated, so that both parts take as long: responses of long-tailed
lengths from two EnvRunners (see `simulated_engine.py`), and a Learner that sleeps as long as a
batch has taken to sample. All else is real: the algorithm and its loop, the stream, dynamic
sampling, weights on their way, Ray.

Some problems have answers that are four times as long. Were groups dropped because they take long,
batches would have fewer of these.

    python benchmarks/overlap.py [steps]
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import ray
from common import Side, report, timed
from dynamic_sampling import MixedTask
from ray.tune import register_env
from simulated_engine import SimulatedRunner

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.learner.learner import DAPOTorchLearner
from rllib_dapo.rollout.group_decisions import Decision, decide

STEPS, PROBLEMS, PROMPTS, RESPONSES, WARM_UP = 16, 48, 8, 8, 3
PACE = {"step_seconds": 0.012, "median_tokens": 40.0, "sigma": 0.8, "long_prompt": 7}
MOST_SECONDS, MOST_DIFFERENCE = 0.62, 0.1
LONG = 4  # every fourth problem has long answers, whether they are right or not


def is_long(prompt: str) -> bool:
    """Whether a problem's answers are long."""
    return int(prompt.split()[0]) // LONG % LONG == 0


class LongTask(MixedTask):
    """Problems of which some have long answers; the engine reads that from the prompt's length."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        """Poses the problem of a seed."""
        prompt, info = super().reset(seed=seed, options=options)
        return prompt + " long" * is_long(prompt), info  # a token for each character


register_env("long_task", LongTask)


class SleepingLearner(DAPOTorchLearner):
    """Sleeps instead of computing, for `learner_config_dict["seconds"]`."""

    def update(self, **kwargs: Any) -> Any:
        """See `Learner.update`."""
        time.sleep(self.config.learner_config_dict["seconds"])
        self._weights_seq_no += 1
        return self.metrics.reduce()


def make_config(max_staleness: int, seconds: float) -> DAPOConfig:
    """The task, with a Learner that takes so long."""
    return (
        DAPOConfig()
        .environment("long_task", env_config={"pace": PACE})
        .language_model("tiny", dtype="float32")
        .rollout(
            max_prompt_tokens=64,
            max_response_tokens=440,
            max_concurrent_responses=64,
            max_staleness=max_staleness,
        )
        .training(
            group_size=RESPONSES,
            prompts_per_step=PROMPTS,
            minibatch_size=PROMPTS * RESPONSES,
            learner_class=SleepingLearner,
        )
        .overlong(buffer_tokens=0)
        .start_guard(limit=None)
        .env_runners(num_env_runners=2, env_runner_cls=SimulatedRunner)
        .learners(num_learners=1, learner_config_dict={"seconds": seconds})
        .fault_tolerance(restart_failed_env_runners=False)
    )


@dataclass
class Figures:
    """What the steps of a side took, and what they were trained on."""

    seconds: list[float] = field(default_factory=list)
    sampling: list[float] = field(default_factory=list)
    long: list[float] = field(default_factory=list)
    expired: float = 0.0


def run(name: str, config: DAPOConfig, steps: int) -> Figures:
    """Trains; the first steps warm up."""
    algorithm: DAPO = config.build_algo()
    figures = Figures()
    for number in range(WARM_UP + steps):
        seconds, result = timed(algorithm.train)
        if number >= WARM_UP:
            accepted = [
                sampled.group()
                for sampled in algorithm._sampled
                if decide(sampled.summary) is Decision.ACCEPTED
            ]
            figures.seconds.append(seconds)
            figures.sampling.append(result["seconds"]["sampling"])
            figures.long.append(statistics.mean(is_long(group.prompt) for group in accepted))
            figures.expired += float(result["env_runners"]["groups_expired"])
        print(f"{name}: step {number + 1} of {WARM_UP + steps}: {seconds:.2f} s", flush=True)
    algorithm.stop()
    return figures


def main(steps: int) -> None:
    """Measures how long sampling takes, then both sides with a Learner that takes as long."""
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    alone = run("sampling alone", make_config(0, 0.0), max(4, steps // 2))
    seconds = statistics.mean(alone.sampling)
    turns = run("in turns", make_config(0, seconds), steps)
    overlapped = run("overlapped", make_config(1, seconds), steps)
    ray.shutdown()

    def mean(figures: Figures) -> Figures:
        return Figures(seconds=[statistics.mean(figures.seconds)])

    report(
        "overlap",
        ours=Side(label="max_staleness 1", unit="s per step", values=mean(overlapped).seconds),
        other=Side(label="in turns", unit="s per step", values=mean(turns).seconds),
        target=1 / MOST_SECONDS,
        higher_is_better=False,
        also={
            "difference of the share of long problems": (
                abs(statistics.mean(overlapped.long) - statistics.mean(turns.long)),
                MOST_DIFFERENCE,
            ),
        },
        steps=steps,
        learner_seconds=round(seconds, 2),
        share_of_long_problems={
            "in turns": round(statistics.mean(turns.long), 3),
            "overlapped": round(statistics.mean(overlapped.long), 3),
        },
        groups_expired_per_step=round(overlapped.expired / steps, 2),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
