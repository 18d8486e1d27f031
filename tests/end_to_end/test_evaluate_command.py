"""`rllib-dapo evaluate`, as a shell runs it: of a trained checkpoint, interrupted, and refused."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

QUICK = ["--set", "rollout.engine=transformers", "--set", "language_model.num_threads=1"]
SUMS = ["--env", "rllib_dapo/Arithmetic-v0", "--set", "environment.env_config.max_operand=9"]
AGAIN = ["--k", "4", "--limit", "24", "--batch", "2", "--seed", "5", "--json", "figures.json"]
SHORT = ["--set", "rollout.max_prompt_tokens=16", "--set", "rollout.max_response_tokens=6"]


def _figures(path: Path) -> dict[str, Any]:
    """What was written, without the one thing that may differ."""
    told = json.loads(path.read_text())
    for one in [told, *(value for value in told.values() if isinstance(value, dict))]:
        one.pop("seconds", None)
    return told


def _responses(folder: Path, name: str) -> pandas.DataFrame:
    parts = sorted((folder / "responses" / name).glob("part-*.parquet"))
    return pandas.concat([pandas.read_parquet(path) for path in parts], ignore_index=True)


@pytest.fixture(scope="module")
def checkpoint(recorded_run: Any) -> Path:
    return recorded_run.checkpoint


@pytest.fixture(scope="module")
def whole(
    checkpoint: Path, run_command: Run, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """The checkpoint on the problems of its own run, undisturbed; and what that printed."""
    folder = tmp_path_factory.mktemp("whole")
    done = run_command("evaluate", checkpoint, *AGAIN, "--output", "results", folder=folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return folder, done.stdout


def test_a_checkpoint_is_evaluated_on_the_held_out_problems_of_its_run(
    whole: tuple[Path, str],
) -> None:
    folder, out = whole
    told = json.loads((folder / "figures.json").read_text())
    assert {"avg@4", "pass@4", "maj@4", "problems", "seconds"} <= set(told)
    assert (told["problems"], told["responses"]) == (24, 96)
    assert 0 <= told["completed_and_correct"] <= told["avg@4"] <= told["pass@4"] <= 1
    assert "on Arithmetic-v0 (24 problems): k=4, temperature 1.0, top_p 1.0, up to 8 tokens" in out
    settings = json.loads((folder / "results" / "settings.json").read_text())
    assert settings["datasets"]["Arithmetic-v0"]["env_config"] == {
        "max_operand": 9,
        "split": "heldout",
    }


def test_what_is_printed_is_lines_and_a_table(whole: tuple[Path, str]) -> None:
    out = whole[1]
    assert all(character.isprintable() or character == "\n" for character in out)
    ours = ("evaluate: ", "other than in the run: ", "results: ", "Arithmetic-v0  ", "  ")
    assert [line for line in out.splitlines() if not line.startswith(ours)] == []
    header, row = out.splitlines()[-2:]
    headings = re.split(r"  +", header.strip())
    assert headings[:5] == ["avg@4", "completed and correct", "pass@4", "maj@4", "reward"]
    assert row.split()[0] == "Arithmetic-v0"


def test_everything_is_kept(whole: tuple[Path, str]) -> None:
    results = whole[0] / "results"
    told = _figures(whole[0] / "figures.json")
    responses = _responses(results, "Arithmetic-v0")
    assert len(responses) == 96
    assert responses["is_correct"].mean() == pytest.approx(told["avg@4"])
    completed = responses["is_correct"] & (responses["finish_reason"] == "stop")
    assert completed.mean() == pytest.approx(told["completed_and_correct"])
    problems = pandas.read_parquet(results / "problems" / "Arithmetic-v0.parquet")
    assert problems["seed"].tolist() == list(range(24))
    assert problems["maj@4"].mean() == pytest.approx(told["maj@4"])
    assert _figures(results / "summary.json") == told
    assert (results / "accuracy.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_same_seed_gives_the_same_again_and_another_one_does_not(
    checkpoint: Path, whole: tuple[Path, str], invoke_command: Run, tmp_path: Path
) -> None:
    arguments = ["evaluate", checkpoint, *AGAIN]
    same = invoke_command(*arguments, "--output", "results", folder=tmp_path)
    assert same.returncode == 0, same.stderr
    assert _figures(tmp_path / "figures.json") == _figures(whole[0] / "figures.json")
    first, again = (
        _responses(folder / "results", "Arithmetic-v0") for folder in (whole[0], tmp_path)
    )
    pandas.testing.assert_frame_equal(first, again)

    elsewhere = ("--output", "other", "--overwrite")
    other = invoke_command(*arguments, "--seed", 6, *elsewhere, folder=tmp_path)
    assert other.returncode == 0, other.stderr
    responses = _responses(tmp_path / "other", "Arithmetic-v0")["response"]
    assert responses.tolist() != first["response"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_evaluation_goes_on_to_the_same_end(
    checkpoint: Path,
    whole: tuple[Path, str],
    start_command: Callable[..., subprocess.Popen[str]],
    invoke_command: Run,
    tmp_path: Path,
    sent: signal.Signals,
) -> None:
    arguments = ["evaluate", checkpoint, *AGAIN, "--output", "results"]

    # On a busy machine the signal may come when all is over: then once more, from the start.
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        process = start_command(*arguments, folder=folder)
        assert process.stdout is not None
        for line in process.stdout:
            if "/96 responses" in line and not line.startswith("Arithmetic-v0  0/"):
                process.send_signal(sent)
                break
        _, err = process.communicate()
        if process.returncode != 0:
            break

    assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130}[sent]
    results = folder / "results"
    if sent is signal.SIGINT:
        assert re.fullmatch(
            rf"interrupted: \d+ of 96 responses are kept; the same command with --output "
            rf"{re.escape(str(results))} resumes it\n",
            err,
        )
    assert len(list((results / "responses" / "Arithmetic-v0").glob("part-*.parquet"))) < 12
    assert not (folder / "figures.json").exists()

    resumed = invoke_command(*arguments, folder=folder)
    assert resumed.returncode == 0, resumed.stderr
    (kept,) = re.findall(r"resuming: (\d+) of 96 responses are there already", resumed.stdout)
    assert 0 < int(kept) <= 96
    assert _figures(folder / "figures.json") == _figures(whole[0] / "figures.json")
    first, again = (_responses(path / "results", "Arithmetic-v0") for path in (whole[0], folder))
    pandas.testing.assert_frame_equal(first, again)


def test_a_finished_evaluation_is_told_again_without_an_engine(
    checkpoint: Path, whole: tuple[Path, str], run_command: Run
) -> None:
    folder, out = whole
    before = _figures(folder / "figures.json")
    arguments = [checkpoint, *AGAIN, "--output", "results", "--num-env-runners", 1]
    again = run_command("evaluate", *arguments, folder=folder)
    assert again.returncode == 0, again.stderr
    assert "resuming: 96 of 96 responses are there already" in again.stdout
    assert again.stdout.splitlines()[-2:] == out.splitlines()[-2:]
    assert _figures(folder / "figures.json") == before


@pytest.mark.slow
def test_several_data_sets_come_out_of_one_run(
    raw_model: Path, run_command: Run, tmp_path: Path
) -> None:
    problems = [{"question": f"{n}+1=", "answer": str(n + 1)} for n in range(3)]
    text = "".join(json.dumps(problem) + "\n" for problem in problems * 4)
    (tmp_path / "problems.jsonl").write_text(text)
    (tmp_path / "both.yaml").write_text("""
environment:
  env: rllib_dapo/Math-v0
  env_config: {template: "{problem}", answer_rule: exact_integer}
datasets:
  file: {env_config: {path: problems.jsonl}}
  sums: {env: rllib_dapo/Arithmetic-v0, env_config: {max_operand: 9}, limit: 2}
""")
    done = run_command(
        *("evaluate", raw_model, "--file", "both.yaml", "--k", 3, *QUICK, *SHORT),
        *("--json", "figures.json", "--output", "out"),
        folder=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    told = _figures(tmp_path / "figures.json")
    assert {name: (one["problems"], one["responses"]) for name, one in told.items()} == {
        "file": (3, 9),
        "sums": (2, 6),
    }
    # Each is asked once, whatever the file repeats.
    assert "3 problems; left out 9 duplicates" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[-2:]] == ["file", "sums"]


REFUSED = {
    "a misspelt model": (
        ["tinny", *SUMS],
        "language_model.name='tinny': unknown model; did you mean \"tiny\"?",
    ),
    "no environment": (["MODEL"], "which environment? name one: --env"),
    "a misspelt environment": (
        ["MODEL", "--env", "rllib_dapo/Arithmatic-v0"],
        "did you mean 'rllib_dapo/Arithmetic-v0'?",
    ),
    "a misspelt setting of it": (
        ["MODEL", *SUMS, "--set", "environment.env_config.digit=1"],
        "unknown setting 'digit'",
    ),
    "no samples": (
        ["MODEL", *SUMS, "--k", "0"],
        "--k 0: evaluation.evaluation_samples_per_prompt=0 must be at least 1",
    ),
    "too many samples": (["MODEL", *SUMS, "--k", "4000"], "--k 4000: k=4000 must be at most 1024"),
    "no nucleus": (
        ["MODEL", *SUMS, "--top-p", "1.5"],
        "--top-p 1.5: evaluation.evaluation_top_p=1.5 must lie in (0, 1]",
    ),
    "a negative temperature": (
        ["MODEL", *SUMS, "--temperature", "-1"],
        "--temperature -1.0: evaluation.evaluation_temperature=-1.0 must be at least 0",
    ),
    "equal responses": (
        ["MODEL", *SUMS, "--temperature", "0", "--k", "4"],
        "--k 4: k=4 with temperature 0 would give 4 equal responses to each problem: use --k 1",
    ),
    "a training temperature of 0": (
        ["MODEL", *SUMS, "--set", "rollout.temperature=0"],
        "--set rollout.temperature=0: rollout.temperature=0 must be positive: at 0 all",
    ),
    "figures where a file is": (
        ["MODEL", *SUMS, "--json", "SUMMARY"],
        "exists already: name another file, or add --overwrite",
    ),
    "figures where a folder is": (
        ["MODEL", *SUMS, "--json", "THERE"],
        "this is a folder: name a file",
    ),
    "a place that is nowhere": (
        ["foo://bucket/checkpoint", *SUMS],
        "foo://bucket/checkpoint: no such place",
    ),
    "no problems": (
        ["MODEL", *SUMS, "--limit", "0"],
        "--limit 0: evaluation.evaluation_num_prompts=0 must be at least 1",
    ),
    "no batch": (["MODEL", *SUMS, "--batch", "0"], "--batch 0 must be at least 1"),
    "more than any machine has": (
        ["MODEL", *SUMS, "--num-env-runners", "10000"],
        "asks for 10000 CPUs",
    ),
    "a preset without its data": (
        ["MODEL", "--file", "evaluate_aime2024"],
        "Data: aime-2024.parquet",
    ),
    "a missing file": (
        ["MODEL", *SUMS, "--file", "nowhere.yaml"],
        "nowhere.yaml: no such file, nor a preset",
    ),
    "more tokens than there is room for": (
        ["MODEL", *SUMS, "--set", "rollout.max_prompt_tokens=9000"],
        "but the model has 512 positions: lower one of them",
    ),
    "another nucleus in the folder": (
        ["CHECKPOINT", *AGAIN, "--top-p", "0.5", "--output", "THERE"],
        "holds an evaluation with top_p=1.0, and this one has 0.5: name another folder",
    ),
    "another model in the folder": (
        ["MODEL", *SUMS, *SHORT, "--output", "THERE"],
        "holds an evaluation with model=",
    ),
}


@pytest.fixture(scope="module")
def told(
    checkpoint: Path,
    raw_model: Path,
    whole: tuple[Path, str],
    run_together: Callable[..., dict[str, Any]],
) -> dict[str, Any]:
    places = {
        "MODEL": str(raw_model),
        "CHECKPOINT": str(checkpoint),
        "THERE": str(whole[0] / "results"),
        "SUMMARY": str(whole[0] / "results" / "summary.json"),
    }
    return run_together(
        {
            name: [
                "evaluate",
                *(places.get(word, word) for word in words),
                *([] if words[-1] == "THERE" and "--output" in words else ["--output", "new"]),
            ]
            for name, (words, _) in REFUSED.items()
        }
    )


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_in_one_line(told: dict[str, Any], name: str) -> None:
    code, out, err, error = told["outcomes"][name]
    assert (code, out, error) == (2, "", "SystemExit(2)"), err
    assert REFUSED[name][1] in err
    assert err.count("\n") == 1


def test_nothing_is_started_to_refuse(told: dict[str, Any]) -> None:
    assert "vllm" not in told["heavy"]
    assert told["ray"] is False
