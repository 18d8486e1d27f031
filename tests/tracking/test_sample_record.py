from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_dapo.core.types import PromptGroup, Response
from rllib_dapo.tracking.sample_record import Sample, from_jsonl, samples_of, spread, to_jsonl


def _response(text: str = "7", *, reward: float = 1.0, is_correct: bool | None = True) -> Response:
    return Response(
        token_ids=np.array([4, 2], dtype=np.int32),
        loss_mask=np.array([True, True]),
        logprobs=np.zeros(2, dtype=np.float32),
        finish_reason="stop",
        reward=reward,
        is_correct=is_correct,
        text=text,
    )


def _group(*responses: Response, seed: int = 5) -> PromptGroup:
    return PromptGroup(
        seed=seed,
        prompt="3+4=",
        prompt_ids=np.array([1], dtype=np.int32),
        responses=responses,
        weights_version=8,
    )


def _samples(*texts: str) -> list[Sample]:
    return samples_of(_group(*map(_response, texts)), iteration=9, source="training", limit=100)


@pytest.mark.parametrize(
    ("response", "verdict", "reward"),
    [
        (_response(), "correct", 1.0),
        (_response(reward=-1.0, is_correct=False), "wrong", -1.0),
        (_response(reward=0.25, is_correct=None), "graded", 0.25),
        (_response(reward=math.nan, is_correct=None), "missing", None),
    ],
)
def test_a_verdict_is_one_of_four_words(
    response: Response, verdict: str, reward: float | None
) -> None:
    (sample,) = samples_of(_group(response), iteration=1, source="training", limit=1)
    assert (sample.verdict, sample.reward) == (verdict, reward)


def test_the_first_responses_are_kept_whatever_their_reward() -> None:
    group = _group(_response("a", reward=-1.0), _response("b"), _response("c", reward=-1.0))
    samples = samples_of(group, iteration=9, source="evaluation", limit=2)
    assert [sample.response for sample in samples] == ["a", "b"]
    assert {(s.iteration, s.seed, s.weights_version, s.response_tokens) for s in samples} == {
        (9, 5, 8, 2)
    }


@given(st.lists(st.text(), max_size=4))
def test_what_is_written_is_read_back(texts: list[str]) -> None:
    samples = _samples(*texts)
    assert from_jsonl(to_jsonl(samples)) == samples


def test_a_line_separator_within_a_response_does_not_cut_its_line() -> None:
    samples = _samples("one\u2028two\u0085three\x0bfour\nfive")
    assert to_jsonl(samples).count("\n") == 1
    assert from_jsonl(to_jsonl(samples)) == samples


def test_a_missing_reward_is_null_since_json_has_no_nan() -> None:
    group = _group(_response(reward=math.nan, is_correct=None))
    line = to_jsonl(samples_of(group, iteration=1, source="training", limit=1))
    assert json.loads(line)["reward"] is None
    assert "NaN" not in line


def test_names_of_a_later_version_are_passed_over() -> None:
    (sample,) = _samples("7")
    row = json.loads(to_jsonl([sample])) | {"of_a_later_version": 1}
    assert from_jsonl(json.dumps(row)) == [sample]


@given(st.integers(0, 50), st.integers(1, 20))
def test_what_is_shown_is_spread_evenly_and_begins_with_the_first(count: int, shown: int) -> None:
    chosen = spread(range(count), shown)
    assert len(chosen) == min(count, shown)
    assert chosen == sorted(set(chosen))
    gaps = [b - a for a, b in pairwise(chosen)]
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert not count or chosen[0] == 0
