"""The demo's task, learnt in turns and while Learners train: is it learnt to the same accuracy?

Five seeds of `tiny_arithmetic` for each bound on staleness, with truncated importance sampling as
it is always on there, and for the largest bound without it, which no setting allows. On two cores
sampling keeps up with training, so few tokens get older than one update. At a bound of 8 each step
waits until groups for all steps ahead are there: then all tokens are as old as they may be. What
counts is the accuracy on sums that are never trained on, after the last step.

    python benchmarks/staleness.py [seeds [iterations]]
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import ray
from common import RESULTS, machine, timed

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.rollout.group_decisions import Decision
from rllib_dapo.run.run_settings import read_settings

RUN_FILE = Path(__file__).resolve().parents[1] / "tune_configs" / "tiny_arithmetic.yaml"
SEEDS, ITERATIONS = 5, 40
# Bounds on staleness, and whether what is stale is corrected.
MOST_NATURAL = 2
SIDES = ((0, True), (1, True), (2, True), (8, True), (8, False))
# Quantiles of Student's t for intervals of 95 %, by the number of seeds less one.
STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


def make_config(max_staleness: int, seed: int, iterations: int) -> DAPOConfig:
    """The demo, evaluated after its last step alone."""
    overrides = [
        f"rollout.max_staleness={max_staleness}",
        "training.old_logprobs=trainer",
        f"debugging.seed={seed}",
        "evaluation.evaluate_before_training=false",
        f"evaluation.evaluation_interval={iterations}",
    ]
    return read_settings(RUN_FILE, overrides).config


def sample_all_ahead(algorithm: DAPO) -> None:
    """Waits until nothing more may be asked for."""
    source, config = algorithm._source, algorithm.config
    with source.ahead(version=algorithm._weights_version):
        sampler = source._sampler
        while (
            len(sampler.accepted) + sampler._num_arrived[Decision.ACCEPTED]
            < config.max_staleness * config.prompts_per_step
        ):
            time.sleep(0.05)


def train(algorithm: DAPO, iterations: int) -> dict[str, float]:
    """Trains to the end; returns the figures of the run."""

    def run() -> list[dict[str, Any]]:
        results = []
        for _ in range(iterations):
            if algorithm.config.max_staleness > MOST_NATURAL:
                sample_all_ahead(algorithm)
            results.append(algorithm.train())
        return results

    seconds, results = timed(run)
    staleness = [result["env_runners"]["staleness_mean"] for result in results]
    return {
        "accuracy": float(results[-1]["evaluation"]["env_runners"]["accuracy"]),
        "seconds": round(seconds, 1),
        "staleness_mean": round(statistics.mean(map(float, staleness)), 3),
        "staleness_max": max(float(r["env_runners"]["staleness_max"]) for r in results),
        "groups_expired": sum(float(r["env_runners"]["groups_expired"]) for r in results),
    }


def interval(values: list[float]) -> tuple[float, float]:
    """Interval of 95 % of a mean, by Student's t."""
    half = STUDENT[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.mean(values)
    return round(mean - half, 4), round(mean + half, 4)


def main(seeds: int, iterations: int) -> None:
    """Trains all sides, and ends with 1 where the intervals of corrected ones do not overlap."""
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    algorithm = make_config(0, 0, iterations).build_algo()
    rows = []
    for max_staleness, is_corrected in SIDES:
        runs = []
        for seed in range(seeds):
            algorithm.reset_config(make_config(max_staleness, seed, iterations))
            if not is_corrected:
                ask_learners(
                    algorithm.learner_group,
                    lambda learner: setattr(learner, "importance_cap", None),
                )
            runs.append(train(algorithm, iterations))
            print(
                f"max_staleness {max_staleness}, corrected {is_corrected}: {runs[-1]}", flush=True
            )
        rows.append(
            {
                "max_staleness": max_staleness,
                "corrected": is_corrected,
                "interval": interval([run["accuracy"] for run in runs]),
                "mean": round(statistics.mean(run["accuracy"] for run in runs), 4),
                "runs": runs,
            }
        )
    algorithm.stop()
    ray.shutdown()

    low, high = rows[0]["interval"]
    holds = all(
        row["interval"][0] <= high and low <= row["interval"][1]
        for row in rows
        if row["corrected"] and row["max_staleness"] <= MOST_NATURAL
    )
    record = {"name": "staleness", "holds": holds, "iterations": iterations, "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(record | {"machine": machine()}, indent=2)
    (RESULTS / "staleness.json").write_text(text + "\n")
    for row in rows:
        print(row["max_staleness"], row["corrected"], row["mean"], row["interval"])
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    main(*given, *(SEEDS, ITERATIONS)[len(given) :])
