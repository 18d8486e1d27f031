"""A run that nobody trained: a sweep over clip bounds and seeds, with every metric of the table."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from rllib_dapo.metrics.metric_table import METRICS
from rllib_dapo.reporting.report_panels import ENV, ITERATION, LEARNER
from rllib_dapo.reporting.stored_run import StoredRun, StoredTrial
from rllib_dapo.tracking.sample_record import Sample
from rllib_dapo.tracking.timeline import Span

SEEDS = 3
_TEXT = (
    "Tom has twice as many apples as Ann , and together they have so we set x equal to the "
    "number of apples that Ann has which gives therefore the answer must be because each of"
)


def synthetic_run(num_trials: int, num_iterations: int = 100, *, name: str = "sweep") -> StoredRun:
    """Makes a sweep with curves that look like learning, evaluations and sampled responses.

    Args:
        num_trials: Number of trials: three seeds of each pair of clip bounds.
        num_iterations: Number of iterations of each.
        name: Name of the run.
    """
    num_points = math.ceil(num_trials / SEEDS)
    side = max(3, math.ceil(math.sqrt(num_points)))  # of the grid of clip bounds
    trials = [_trial(number, num_iterations, side=side) for number in range(num_trials)]
    return StoredRun(
        name=name,
        folder=f"/runs/{name}",
        is_local=True,
        metric=f"{ENV}/accuracy",
        mode="max",
        trials=tuple(trials),
        table=pd.DataFrame({"trial_id": [trial.trial_id for trial in trials]}),
    )


def _trial(number: int, num_iterations: int, *, side: int) -> StoredTrial:
    point, seed = divmod(number, SEEDS)
    low, high = 0.1 + 0.05 * (point % side), 0.2 + 0.04 * (point // side)
    return StoredTrial(
        trial_id=f"{number:05}",
        name=f"trial_{number:05}",
        folder=f"/runs/sweep/trial_{number:05}",
        status="finished",
        error="",
        config={
            "epsilon_low": round(low, 2),
            "epsilon_high": round(high, 2),
            "seed": seed,
            "prompts_per_step": 16,
            "on_shortfall": "train_partial",
            "model_name": "tiny",
        },
        frame=_frame(number, num_iterations, skill=0.5 + high - 0.3 * low),
        checkpoints=(),
        samples=tuple(_samples(number, num_iterations)),
        timeline={num_iterations: _spans()},
    )


def _frame(number: int, count: int, *, skill: float) -> pd.DataFrame:
    draw = np.random.default_rng(number)
    steps = np.arange(1, count + 1)
    learned = skill * (1 - np.exp(-steps / (count / 3)))
    plain = [m for m in METRICS if not m.name.endswith("*")]
    columns: dict[str, np.ndarray] = {
        f"{m.source}/{m.name}": (0.2 + learned + 0.05 * draw.standard_normal(count)).clip(0)
        for m in plain
    }
    columns |= {
        f"{ENV}/reward_components/{part}": learned * draw.random() for part in ("answer", "form")
    }
    columns |= {f"timers/part_{i}": draw.random(count) for i in range(12)}
    columns[f"{LEARNER}/entropy"] = 1.4 * np.exp(-steps / count) + 0.05 * draw.random(count)
    columns[f"{LEARNER}/clip_fraction_low"] = np.zeros(count)
    columns[f"{LEARNER}/num_gradient_updates_lifetime"] = 4.0 * steps
    columns[f"{LEARNER}/gradient_updates"] = np.full(count, 4.0)
    columns[f"{ENV}/groups_accepted"] = np.where(steps % 29 == 0, 11.0, 16.0)
    columns[f"{ENV}/tokens_per_accepted_group"] = 4000 + 400 * draw.random(count)
    columns[f"{ENV}/response_length_max"] = np.full(count, 512.0)
    columns["time_this_iter_s"] = 8 + draw.random(count)
    columns["time_total_s"] = columns["time_this_iter_s"].cumsum()
    columns[ITERATION] = steps

    measured = np.where(steps % 10 == 0, learned + 0.03 * draw.standard_normal(count), math.nan)
    columns["evaluation/env_runners/avg@8"] = measured
    columns["evaluation_at_start/env_runners/avg@8"] = np.full(count, 0.02)
    return pd.DataFrame(columns)


def _samples(number: int, num_iterations: int) -> list[Sample]:
    draw = np.random.default_rng(number)
    return [
        _sample(draw, iteration, prompt, share=iteration / num_iterations)
        for iteration in range(0, num_iterations + 1, 10)
        for prompt in range(4)
        for _ in range(4)
    ]


def _sample(draw: np.random.Generator, iteration: int, prompt: int, *, share: float) -> Sample:
    is_correct, is_cut = draw.random() < share, draw.random() < 0.15
    verdict = "missing" if draw.random() < 0.05 else "correct" if is_correct else "wrong"
    text = " ".join(draw.choice(_TEXT.split(), 60))
    return Sample(
        iteration=iteration,
        source="evaluation",
        seed=prompt,
        prompt=f"Problem {prompt}: Tom has {prompt + 3} times as many apples as Ann. How many?",
        response=text if is_cut else f"{text} Answer: {int(draw.integers(0, 99))}",
        verdict=verdict,
        reward=None if verdict == "missing" else float(is_correct),
        reason="the judge does not answer" if verdict == "missing" else "",
        prediction="" if is_cut else str(int(draw.integers(0, 99))),
        response_tokens=512 if is_cut else int(draw.integers(60, 400)),
        is_truncated=is_cut,
        weights_version=iteration,
    )


def _spans() -> list[Span]:
    rows = [("EnvRunner 1", "generation", 0.0, 5.0), ("EnvRunner 2", "generation", 0.0, 4.1)]
    rows += [("Learner 0", "update", 5.2, 7.9), ("driver", "weight_sync", 7.9, 8.1)]
    return [Span(*row) for row in rows]
