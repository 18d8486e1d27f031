"""One row of a table of sampled responses, and the JSONL files that such tables are kept in."""

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
    """A response and what came of it.

    Attributes:
        iteration: Training iterations done when it was sampled, its own included; 0 before
            training.
        source: Which environment's problem it answers.
        seed: The problem's reset seed.
        prompt: As text, before any chat template.
        response: As text; an environment's answers between turns included.
        verdict: `graded` where the environment has no notion of correct, `missing` where there is
            no verdict.
        reward: The raw reward; None where it is missing.
        reason: Why it is missing.
        prediction: The answer that the environment found in the response.
        response_tokens: Its length.
        is_truncated: Whether it hit the length limit.
        weights_version: Which weights sampled it.
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
    """The first responses of a group: which ones these are has nothing to do with how good they are.

    Args:
        group: A prompt's.
        iteration: See `Sample`.
        source: See `Sample`.
        limit: At most so many.
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
    """What the environment said, in one word."""
    if response.is_missing:
        return "missing"
    if response.is_correct is None:
        return "graded"
    return "correct" if response.is_correct else "wrong"


def spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """At most `count` of some things, evenly spread over them, the first among them."""
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def to_jsonl(samples: Iterable[Sample]) -> str:
    """One line of JSON for each sample."""
    return "".join(
        json.dumps(asdict(sample), ensure_ascii=False, allow_nan=False) + "\n" for sample in samples
    )


def from_jsonl(text: str) -> list[Sample]:
    """Reads what `to_jsonl` wrote; names that a later version may have added are passed over."""
    names = {field.name for field in fields(Sample)}
    # Not `splitlines`: it also cuts at the line separators that JSON leaves as they are within a
    # response.
    return [_sample(json.loads(line), names) for line in text.split("\n") if line.strip()]


def _sample(row: dict[str, Any], names: set[str]) -> Sample:
    return Sample(**{name: value for name, value in row.items() if name in names})
