"""Responses on disk: complete parts, or none."""

from __future__ import annotations

from math import nan
from pathlib import Path

import numpy as np
import pytest

from rllib_dapo.core.types import PromptGroup, Response
from rllib_dapo.evaluation.questions import Question
from rllib_dapo.evaluation.response_parts import ResponseParts

QUESTIONS = [
    Question(seed=seed, problem_id=f"p{seed}", prompt=f"{seed}?", answer=str(seed))
    for seed in range(5)
]


def _response(**changes: object) -> Response:
    given = {
        "token_ids": np.array([5, 6, 2], dtype=np.int32),
        "loss_mask": np.ones(3, dtype=np.bool_),
        "logprobs": np.zeros(3, dtype=np.float32),
        "finish_reason": "stop",
        "reward": 1.0,
        "is_correct": True,
        "text": "It is 0",
        "prediction": "0",
    }
    return Response(**(given | changes))  # type: ignore[arg-type]


def _group(seed: int, *responses: Response) -> PromptGroup:
    ids = np.array([1, 2], dtype=np.int32)
    return PromptGroup(
        seed=seed, prompt=f"{seed}?", prompt_ids=ids, responses=responses, weights_version=0
    )


def test_parts_are_cut_in_the_order_of_the_problems(tmp_path: Path) -> None:
    parts = ResponseParts(tmp_path, QUESTIONS, part_size=2)
    assert parts.requests == parts.missing() == [[0, 1], [2, 3], [4]]
    assert parts.read().empty
    assert parts.seconds() == 0


def test_parts_may_come_in_any_order_and_are_read_in_theirs(tmp_path: Path) -> None:
    parts = ResponseParts(tmp_path, QUESTIONS, part_size=2)
    parts.write([_group(4, _response())], seconds=1.5)
    parts.write([_group(0, _response(), _response()), _group(1, _response())], seconds=2.25)

    again = ResponseParts(tmp_path, QUESTIONS, part_size=2)
    assert again.missing() == [[2, 3]]
    assert again.read()[["seed", "sample"]].values.tolist() == [[0, 0], [0, 1], [1, 0], [4, 0]]
    assert again.seconds() == 3.75


def test_a_response_is_kept_whole(tmp_path: Path) -> None:
    parts = ResponseParts(tmp_path, QUESTIONS, part_size=1)
    late = _response(
        reward=nan,
        is_correct=None,
        reason="timeout: 5 s",
        text="lone \ud800",
        finish_reason="length",
    )
    graded = _response(reward=0.5, is_correct=None)
    parts.write([_group(2, _response(), late, graded)], seconds=0.0)

    responses = parts.read()
    right, missing, only_graded = (
        responses.astype(object).where(responses.notna(), None).to_dict("records")
    )
    assert right == {
        "problem_id": "p2",
        "seed": 2,
        "sample": 0,
        "prompt": "2?",
        "answer": "2",
        "response": "It is 0",
        "prediction": "0",
        "reward": 1.0,
        "is_correct": True,
        "missing_reason": None,
        "prompt_tokens": 2,
        "tokens": 3,
        "finish_reason": "stop",
        "turns": 1,
    }

    assert (missing["is_correct"], missing["missing_reason"], missing["response"]) == (
        None,
        "timeout: 5 s",
        "lone ?",
    )
    assert missing["reward"] is None

    assert (only_graded["reward"], only_graded["is_correct"], only_graded["missing_reason"]) == (
        0.5,
        None,
        None,
    )


def test_a_part_without_responses_is_there_all_the_same(tmp_path: Path) -> None:
    parts = ResponseParts(tmp_path, QUESTIONS[:1], part_size=1)
    parts.write([_group(0)], seconds=1.0)  # its prompt is too long
    assert parts.missing() == []
    assert parts.read().empty


def test_what_was_being_written_when_a_process_died_is_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ResponseParts(tmp_path, QUESTIONS, part_size=5)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", die)
        with pytest.raises(KeyboardInterrupt):
            parts.write([_group(seed, _response()) for seed in range(5)], seconds=1.0)

    assert list(tmp_path.iterdir())
    assert parts.missing() == parts.requests
    assert parts.read().empty
