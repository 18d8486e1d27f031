"""Sampled responses by prompt, cut down to what a page can hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from rllib_dapo.reporting.read import Trial
from rllib_dapo.tracking.sample_record import Sample, spread

ALL_CHARACTERS = 4_000_000  # of all trials' responses on one page
MOST_PROMPTS, MOST_ITERATIONS, MOST_RESPONSES = 40, 30, 8  # of each trial, prompt, and iteration
_LONGEST, _SHORTEST = 4000, 300


def responses_by_prompt(
    trials: Sequence[Trial], *, is_cut: bool = True
) -> list[list[dict[str, Any]]]:
    """For each trial its prompts, those that were answered most often first.

    Evaluations ask the same prompts again and again; a prompt of training comes back where problems
    repeat.

    Args:
        trials: With their samples.
        is_cut: Leave out what a page has no room for: further prompts, iterations in between, the
            middle of long texts.

    Returns:
        For each trial a list of prompts: `prompt`, `source`, `iterations`, each a dict of
        `iteration` and `responses`.
    """
    chosen = [_by_prompt(trial.samples, is_cut=is_cut) for trial in trials]
    shown = sum(len(samples) for prompts in chosen for samples in prompts)
    limit = max(_SHORTEST, min(_LONGEST, ALL_CHARACTERS // max(1, shown))) if is_cut else None
    return [[_prompt(samples, limit) for samples in prompts] for prompts in chosen]


def _by_prompt(samples: Sequence[Sample], *, is_cut: bool) -> list[list[Sample]]:
    found: defaultdict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        found[sample.source, sample.prompt].append(sample)
    prompts = sorted(
        found.values(),
        key=lambda group: (
            -len(_iterations(group)),
            group[0].source != "evaluation",
            group[0].seed,
        ),
    )
    return [_some(group) for group in prompts[:MOST_PROMPTS]] if is_cut else prompts


def _iterations(samples: Sequence[Sample]) -> list[int]:
    return sorted({sample.iteration for sample in samples})


def _some(samples: Sequence[Sample]) -> list[Sample]:
    iterations = _iterations(samples)
    kept = {*spread(iterations, MOST_ITERATIONS - 1), iterations[-1]}
    taken: Counter[int] = Counter()
    shown = []
    for sample in samples:
        taken[sample.iteration] += 1
        if sample.iteration in kept and taken[sample.iteration] <= MOST_RESPONSES:
            shown.append(sample)
    return shown


def _prompt(samples: Sequence[Sample], limit: int | None) -> dict[str, Any]:
    first = samples[0]
    return {
        "prompt": shorten(first.prompt, limit),
        "source": first.source,
        "iterations": [
            {
                "iteration": iteration,
                "responses": [
                    _response(sample, limit) for sample in samples if sample.iteration == iteration
                ],
            }
            for iteration in _iterations(samples)
        ],
    }


def _response(sample: Sample, limit: int | None) -> dict[str, Any]:
    return {
        "text": shorten(sample.response, limit),
        "verdict": sample.verdict,
        "reward": sample.reward,
        "reason": sample.reason,
        "prediction": shorten(sample.prediction, limit),
        "tokens": sample.response_tokens,
        "is_truncated": sample.is_truncated,
    }


def shorten(text: str, limit: int | None) -> str:
    """A text without its middle: how a response begins and how it ends tells the most."""
    if limit is None or len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    return f"{text[:head]}\n[... {len(text) - limit:,} characters ...]\n{text[-tail:]}"
