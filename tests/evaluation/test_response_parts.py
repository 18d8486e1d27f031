"""Responses on disk: complete parts, or none."""

from __future__ import annotations

from math import nan
from pathlib import Path

import numpy as np
import pandas
import pytest

from rllib_dapo.core.types import PromptGroup, Response
from rllib_dapo.evaluation.questions import Question
from rllib_dapo.evaluation.response_parts import ResponseParts, response_row

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


def _parts(folder: Path, *, part_size: int, samples: int, problems: int = 5) -> ResponseParts:
    return ResponseParts(folder, QUESTIONS[:problems], part_size=part_size, num_samples=samples)


def _row(seed: int, sample: int, **changes: object) -> dict[str, object]:
    return response_row(seed, sample, 2, _response(**changes))


def _keys(parts: ResponseParts) -> list[list[int]]:
    return parts.read()[["seed", "sample"]].values.tolist()


def test_parts_are_cut_in_the_order_of_the_problems(tmp_path: Path) -> None:
    parts = _parts(tmp_path, part_size=2, samples=1)
    assert parts.requests == parts.missing() == [[0, 1], [2, 3], [4]]
    assert parts.read().empty
    assert parts.seconds() == 0


def test_parts_may_come_in_any_order_and_are_read_in_theirs(tmp_path: Path) -> None:
    parts = _parts(tmp_path, part_size=2, samples=2)
    parts.complete([_group(4, _response(), _response())], seconds=1.5)
    pair = _response(), _response()
    parts.complete([_group(0, *pair), _group(1, *pair)], seconds=2.25)

    again = _parts(tmp_path, part_size=2, samples=2)
    assert again.missing() == [[2, 3]]
    assert _keys(again) == [[0, 0], [0, 1], [1, 0], [1, 1], [4, 0], [4, 1]]
    assert again.seconds() == 3.75
    assert (again.num_done, again.num_responses) == (6, 10)


def test_each_response_is_on_disk_as_soon_as_it_ends(tmp_path: Path) -> None:
    parts = _parts(tmp_path, part_size=2, samples=2)
    assert parts.add(_row(1, 1, text="first"), seconds=3.0)
    assert parts.add(_row(0, 0, text="second"), seconds=0.5)
    assert not parts.add(_row(0, 0, text="once more"), seconds=0.0)

    again = _parts(tmp_path, part_size=2, samples=2)
    assert again.kept() == {n: {0: {0}, 1: {1}}.get(n, frozenset()) for n in range(5)}
    assert again.num_done == 2
    assert again.missing() == parts.requests

    # Only those that were not there are sampled again, and nothing is told twice.
    new = again.complete([_group(0, _response()), _group(1, _response())], seconds=1.0)
    assert [(row["seed"], row["sample"]) for row in new] == [(0, 1), (1, 0)]
    assert _keys(again) == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert again.read()["response"].tolist() == ["second", "It is 0", "It is 0", "first"]
    assert again.seconds() == 4.5
    assert [file.name for file in tmp_path.iterdir()] == ["part-00000.parquet"]


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_line_that_was_cut_short_is_sampled_again(tmp_path: Path, cut: int) -> None:
    parts = _parts(tmp_path, part_size=5, samples=1)
    for seed in range(3):
        parts.add(_row(seed, 0, text=f"said {seed} \u2028 \ud800"), seconds=1.0)
    (journal,) = tmp_path.iterdir()
    journal.write_bytes(journal.read_bytes()[:-cut])

    again = _parts(tmp_path, part_size=5, samples=1)
    assert [seed for seed, samples in again.kept().items() if samples] == [0, 1]
    again.add(_row(2, 0), seconds=1.0)
    assert _parts(tmp_path, part_size=5, samples=1).num_done == 3


def test_what_is_kept_in_a_journal_comes_out_as_if_it_had_not_been_interrupted(
    tmp_path: Path,
) -> None:
    responses = [
        _response(reward=0.1 + 0.2),
        _response(reward=nan, is_correct=None, reason="timeout: 5 s", text="\ud800"),
    ]
    whole, broken = (_parts(tmp_path / name, part_size=1, samples=2) for name in ("a", "b"))
    whole.complete([_group(0, *responses)], seconds=0.0)
    broken.add(response_row(0, 1, 2, responses[1]), seconds=0.0)
    resumed = _parts(tmp_path / "b", part_size=1, samples=2)
    resumed.complete([_group(0, responses[0])], seconds=0.0)
    pandas.testing.assert_frame_equal(whole.read(), resumed.read())


def test_a_response_is_kept_whole(tmp_path: Path) -> None:
    parts = _parts(tmp_path, part_size=1, samples=3)
    late = _response(
        reward=nan,
        is_correct=None,
        reason="timeout: 5 s",
        text="lone \ud800",
        finish_reason="length",
    )
    graded = _response(reward=0.5, is_correct=None)
    parts.complete([_group(2, _response(), late, graded)], seconds=0.0)

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
    parts = _parts(tmp_path, part_size=1, samples=2, problems=1)
    parts.complete([_group(0)], seconds=1.0)  # its prompt is too long
    assert parts.missing() == []
    assert parts.read().empty


def test_what_was_being_written_when_a_process_died_is_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = _parts(tmp_path, part_size=5, samples=1)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", die)
        with pytest.raises(KeyboardInterrupt):
            parts.complete([_group(seed, _response()) for seed in range(5)], seconds=1.0)

    assert list(tmp_path.iterdir())
    again = _parts(tmp_path, part_size=5, samples=1)
    assert again.missing() == parts.requests
    assert again.read().empty
    assert again.num_done == 5  # all of it is in the journal
