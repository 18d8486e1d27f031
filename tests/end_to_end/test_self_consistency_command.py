"""`rllib-dapo self-consistency` with a real engine: planted wrong answers go, the others stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from rllib_dapo.models import load_tokenizer

Run = Callable[..., CompletedProcess[str]]


def _write(rows: list[dict[str, Any]], file: Path) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def knowing_model(
    raw_model: Path, tmp_path_factory: pytest.TempPathFactory, invoke_command: Run
) -> Path:
    """A tiny model that has learnt four sums by heart."""
    folder = tmp_path_factory.mktemp("knowing")
    rows = [{"prompt": f"{a}+{a}=", "response": str(2 * a)} for a in range(1, 5)]
    done = invoke_command(
        "sft",
        _write(rows, folder / "sums.jsonl"),
        folder / "model",
        "--model",
        raw_model,
        "--epochs",
        60,
        "--batch-size",
        4,
        "--lr",
        "3e-3",
        "--heldout",
        0,
        folder=folder,
        settings={"language_model.dtype": "float32", "language_model.num_threads": 1},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "model"


def test_planted_wrong_answers_are_dropped_and_correct_samples_written(
    knowing_model: Path, tmp_path: Path, invoke_command: Run
) -> None:
    # Of four sums that the model knows, the file has two wrong.
    answers = {"1+1=": "2", "2+2=": "5", "3+3=": "6", "4+4=": "7"}
    file = _write(
        [{"question": text, "answer": answer} for text, answer in answers.items()],
        tmp_path / "problems.jsonl",
    )
    done = invoke_command(
        "self-consistency",
        file,
        knowing_model,
        tmp_path / "kept.jsonl",
        "--sft",
        tmp_path / "sft.jsonl",
        "--n",
        6,
        "--threshold",
        0.6,
        "--output",
        tmp_path / "samples",
        folder=tmp_path,
        settings={
            "rollout.engine": "transformers",
            "rollout.max_prompt_tokens": 16,
            "rollout.max_response_tokens": 8,
            "language_model.dtype": "float32",
            "environment.env_config.template": "'{problem}'",
            "environment.env_config.answer_rule": "last_number",
        },
    )

    assert done.returncode == 0, done.stdout + done.stderr
    kept = {row["question"]: row["answer"] for row in _read(tmp_path / "kept.jsonl")}
    assert kept == {"1+1=": "2", "3+3=": "6"}
    assert "kept 2 of 4 records; dropped: 2 outvoted" in done.stdout

    written = [(row["prompt"], row["response"]) for row in _read(tmp_path / "sft.jsonl")]
    assert sorted(written) == [("1+1=", "2"), ("3+3=", "6")]
    tokenizer = load_tokenizer(knowing_model)
    assert all(tokenizer.eos_token not in response for _, response in written)
    assert "said before" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--n", 1), "--n 1 must be at least 2"),
        (("--threshold", 1.5), "--threshold 1.5 must lie in"),
        (("--temperature", 0), "--temperature 0.0 must be over 0"),
        (("--per-problem", 0), "--per-problem 0"),
        (("--limit", 0), "--limit 0"),
        (("--sft", "records.csv"), "must end in .jsonl or .parquet"),
        (("--like", "nothing"), "nothing"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    arguments: tuple[Any, ...], reason: str, tmp_path: Path, invoke_command: Run
) -> None:
    file = _write([{"question": "1+1=", "answer": "2"}], tmp_path / "problems.jsonl")
    done = invoke_command(
        "self-consistency", file, "tiny", tmp_path / "kept.jsonl", *arguments, folder=tmp_path
    )

    assert done.returncode == 2
    assert reason in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["problems.jsonl"]
