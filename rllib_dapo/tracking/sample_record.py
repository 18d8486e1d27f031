"""Rows of the tables of sampled responses, and their JSONL files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar

from rllib_dapo.core.types import PromptGroup, Response

FOLDER = "samples"
SUFFIX = ".jsonl"

Source = Literal["training", "evaluation"]
Verdict = Literal["correct", "wrong", "graded", "missing"]
_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A sampled response with its prompt and verdict.

    Attributes:
        iteration: Training iteration in which it was sampled, counted from 1; 0 before training.
        source: Whether training or an evaluation sampled it.
        seed: Reset seed of the problem.
        prompt: Text of the prompt, before any chat template.
        response: Text of the response, including an environment's observations between turns.
        verdict: Verdict of the environment, see `verdict_of`.
        reward: Raw reward; None if it is missing.
        reason: Why the reward is missing; `""` if it is not.
        prediction: The answer that the environment found in the response.
        response_tokens: Length of the response in tokens.
        is_truncated: Whether the response reached the length limit.
        weights_version: Version of the weights that sampled it.
    """

    iteration: int
    source: Source
    seed: int
    prompt: str
    response: str
    verdict: Verdict
    reward: float | None
    reason: str
    prediction: str
    response_tokens: int
    is_truncated: bool
    weights_version: int


def samples_of(group: PromptGroup, *, iteration: int, source: Source, limit: int) -> list[Sample]:
    """Makes samples of the first responses of a group, whatever their rewards.

    Args:
        group: Responses to one prompt.
        iteration: See `Sample`.
        source: See `Sample`.
        limit: Maximum number of samples.
    """
    return [
        Sample(
            iteration=iteration,
            source=source,
            seed=group.seed,
            prompt=str(group.prompt),
            response=response.text,
            verdict=verdict_of(response),
            reward=None if response.is_missing else float(response.reward),
            reason=response.reason,
            prediction=response.prediction,
            response_tokens=len(response.token_ids),
            is_truncated=response.finish_reason == "length",
            weights_version=group.weights_version,
        )
        for response in group.responses[:limit]
    ]


def verdict_of(response: Response) -> Verdict:
    """The environment's verdict on a response, in one word.

    `missing` means that there is no reward; `graded`, that the environment gives rewards but does
    not say what is correct.
    """
    if response.is_missing:
        return "missing"
    if response.is_correct is None:
        return "graded"
    return "correct" if response.is_correct else "wrong"


def spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """Chooses at most `count` items, evenly spread; the first is always among them."""
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def to_jsonl(samples: Iterable[Sample]) -> str:
    """Formats samples as JSONL, one line for each."""
    return "".join(
        json.dumps(asdict(sample), ensure_ascii=False, allow_nan=False) + "\n" for sample in samples
    )


def from_jsonl(text: str) -> list[Sample]:
    """Reads what `to_jsonl` wrote, ignoring fields that a later version may have added."""
    names = {field.name for field in fields(Sample)}

    # Not `splitlines`: it also splits at line separators that JSON leaves unescaped in a response.
    return [_sample(json.loads(line), names) for line in text.split("\n") if line.strip()]


def _sample(row: dict[str, Any], names: set[str]) -> Sample:
    return Sample(**{name: value for name, value in row.items() if name in names})
