"""Sampled responses by prompt, cut down to what a page can hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from rllib_dapo.reporting.stored_run import StoredTrial
from rllib_dapo.tracking.sample_record import Sample, spread

CHARACTERS_PER_PAGE = 4_000_000  # of all responses of all trials
# Prompts of each trial, iterations of each prompt, responses of each iteration.
MOST_PROMPTS, MOST_ITERATIONS, MOST_RESPONSES = 40, 30, 8
_LONGEST_TEXT, _SHORTEST_TEXT = 4000, 300
_MOST_TEXTS = CHARACTERS_PER_PAGE // _SHORTEST_TEXT


def responses_by_prompt(
    trials: Sequence[StoredTrial], *, is_cut: bool = True
) -> list[list[dict[str, Any]]]:
    """Groups each trial's responses by prompt, starting with the prompts seen most often.

    Evaluations ask the same prompts again and again. A training prompt comes back only where
    problems repeat.

    Args:
        trials: Trials with their samples.
        is_cut: Whether to leave out what a page has no room for: further prompts, iterations in
            between, the middle of long texts.

    Returns:
        For each trial a list of prompts. A prompt is a dict of `prompt`, `source` and
        `iterations`, and each iteration a dict of `iteration` and `responses`.
    """
    chosen = [_samples_by_prompt(trial.samples, is_cut=is_cut) for trial in trials]
    if is_cut:
        most = most_prompts([[len(samples) for samples in prompts] for prompts in chosen])
        chosen = [prompts[:most] for prompts in chosen]

    # All texts of a page have the same limit, so that together they keep to the page's.
    num_texts = sum(len(samples) for prompts in chosen for samples in prompts)
    limit = None
    if is_cut:
        share = CHARACTERS_PER_PAGE // max(1, num_texts)
        limit = max(_SHORTEST_TEXT, min(_LONGEST_TEXT, share))

    return [[_prompt(samples, limit) for samples in prompts] for prompts in chosen]


def most_prompts(texts: Sequence[Sequence[int]]) -> int:
    """How many prompts of each trial a page has room for.

    Args:
        texts: The number of texts of each prompt of each trial.

    Returns:
        `MOST_PROMPTS`, or fewer where even short texts would be too many.
    """
    most = MOST_PROMPTS
    while most > 1 and sum(sum(of_trial[:most]) for of_trial in texts) > _MOST_TEXTS:
        most -= 1
    return most


def _samples_by_prompt(samples: Sequence[Sample], *, is_cut: bool) -> list[list[Sample]]:
    found: defaultdict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        found[sample.source, sample.prompt].append(sample)

    def place(group: list[Sample]) -> tuple[int, bool, int]:
        return -len(_iterations(group)), group[0].source != "evaluation", group[0].seed

    prompts = sorted(found.values(), key=place)
    return [_cut(group) for group in prompts[:MOST_PROMPTS]] if is_cut else prompts


def _iterations(samples: Sequence[Sample]) -> list[int]:
    return sorted({sample.iteration for sample in samples})


def _cut(samples: Sequence[Sample]) -> list[Sample]:
    """Keeps some of a prompt's iterations, the first and the last among them, and of each a few."""
    iterations = _iterations(samples)
    kept = {*spread(iterations, MOST_ITERATIONS - 1), iterations[-1]}

    num_seen: Counter[int] = Counter()
    shown = []
    for sample in samples:
        num_seen[sample.iteration] += 1
        if sample.iteration in kept and num_seen[sample.iteration] <= MOST_RESPONSES:
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
    """Leaves out the middle of a long text: its beginning and its end tell the most.

    Args:
        text: Any text.
        limit: Number of characters to keep; None keeps all.
    """
    if limit is None or len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    return f"{text[:head]}\n[... {len(text) - limit:,} characters ...]\n{text[-tail:]}"
