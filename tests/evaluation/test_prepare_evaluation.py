"""What is checked and decided before an engine starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.evaluation.evaluation_settings import read_evaluation
from rllib_dapo.evaluation.prepare_evaluation import PreparedEvaluation, prepare_evaluation

SUMS = "rllib_dapo/Arithmetic-v0"


@pytest.fixture
def prepared(tmp_path: Path, raw_model: Path) -> Callable[..., PreparedEvaluation]:
    def make(
        *overrides: str, batch: int | None = None, env: str = SUMS, **options: Any
    ) -> PreparedEvaluation:
        settings = read_evaluation(str(raw_model), envs=[env], overrides=overrides, options=options)
        return prepare_evaluation(settings, output=tmp_path / "out", batch=batch)

    return make


def test_an_endless_environment_is_asked_a_number_of_problems_and_that_is_said(
    prepared: Callable[..., PreparedEvaluation],
) -> None:
    evaluation = prepared()
    assert len(evaluation.questions["Arithmetic-v0"]) == 256
    assert (
        "Arithmetic-v0 generates problems without end: asking the first 256; --limit sets how many"
        in evaluation.notes
    )


def test_of_an_endless_environment_more_can_be_asked(
    prepared: Callable[..., PreparedEvaluation],
) -> None:
    evaluation = prepared("evaluation.evaluation_num_prompts=300")
    questions = evaluation.questions["Arithmetic-v0"]
    assert [question.seed for question in questions] == list(range(300))
    assert not [note for note in evaluation.notes if "without end" in note]
    assert all(question.answer for question in questions)


@pytest.mark.parametrize(("limit", "asked"), [("null", 5), ("3", 3), ("9", 5)])
def test_a_file_is_asked_once_and_what_it_repeats_is_counted(
    prepared: Callable[..., PreparedEvaluation], tmp_path: Path, limit: str, asked: int
) -> None:
    rows = [json.dumps({"question": f"{n}+1", "answer": str(n + 1)}) + "\n" for n in range(5)]
    (tmp_path / "problems.jsonl").write_text("".join(rows * 32))
    path = f"environment.env_config.path={tmp_path / 'problems.jsonl'}"
    evaluation = prepared(path, f"datasets.Math-v0.limit={limit}", env="rllib_dapo/Math-v0")
    assert len({question.prompt for question in evaluation.questions["Math-v0"]}) == asked
    assert len(evaluation.questions["Math-v0"]) == asked
    assert any("5 problems; left out 155 duplicates" in note for note in evaluation.notes)


def test_lengths_that_nobody_gave_are_what_the_model_has_room_for(
    prepared: Callable[..., PreparedEvaluation],
) -> None:
    evaluation = prepared("rollout.max_prompt_tokens=100")
    assert (evaluation.config.max_prompt_tokens, evaluation.config.max_response_tokens) == (
        100,
        412,
    )
    assert any(
        note.endswith("rollout.max_prompt_tokens=100, rollout.max_response_tokens=412")
        for note in evaluation.notes
    )


@pytest.mark.parametrize(("batch", "size"), [(None, 8), (5, 5)])
def test_a_part_fills_the_engine_or_is_as_large_as_asked_for(
    prepared: Callable[..., PreparedEvaluation], batch: int | None, size: int
) -> None:
    assert prepared(batch=batch).part_size == size  # 256 responses at a time, 32 to each problem


def test_a_file_that_evaluates_while_it_trains_will_do(tmp_path: Path, raw_model: Path) -> None:
    # Its evaluation asks held-out problems, and nothing is trained on here that could be the same.
    rows = [json.dumps({"question": f"{n}+1", "answer": str(n + 1)}) + "\n" for n in range(40)]
    (tmp_path / "problems.jsonl").write_text("".join(rows))
    (tmp_path / "run.yaml").write_text(
        f"""
environment:
  env: rllib_dapo/Math-v0
  env_config: {{path: {tmp_path / "problems.jsonl"}, split: train, heldout_fraction: 0.3}}
evaluation:
  evaluation_interval: 5
  evaluate_before_training: true
  evaluation_config: {{env_config: {{split: heldout}}}}
"""
    )

    settings = read_evaluation(str(raw_model), file=tmp_path / "run.yaml")
    questions = prepare_evaluation(settings, output=tmp_path / "out", batch=None).questions

    assert 0 < len(questions["Math-v0"]) < 40
