"""`rllib-dapo evaluate`, as a shell runs it: of a trained checkpoint, interrupted, and refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest

SCRIPT = "from rllib_dapo.cli import main; main()"
QUICK = ["--set", "rollout.engine=transformers", "--set", "language_model.num_threads=1"]
SUMS = ["--env", "rllib_dapo/Arithmetic-v0", "--set", "environment.env_config.max_operand=9"]
AGAIN = ["--k", "4", "--limit", "24", "--batch", "2", "--seed", "5", "--json", "figures.json"]
SHORT = ["--set", "rollout.max_prompt_tokens=16", "--set", "rollout.max_response_tokens=6"]


def _start(*arguments: object, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background leaves them deaf to it, and they would pass
        # that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _command(*arguments: object, folder: Path) -> tuple[int, str, str]:
    process = _start(*arguments, folder=folder)
    out, err = process.communicate(timeout=280)
    return process.returncode, out, err


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
def checkpoint(tmp_path_factory: pytest.TempPathFactory, raw_model: Path) -> Path:
    """One iteration of the tiny preset with a barely trained model."""
    folder = tmp_path_factory.mktemp("run")
    overrides = {
        "language_model.name": raw_model,
        "language_model.num_threads": 1,
        "rollout.engine": "transformers",
        "training.prompts_per_step": 4,
        "training.group_size": 4,
        "training.minibatch_size": 8,
        "dynamic_sampling.enabled": "false",
        "environment.env_config.max_operand": 9,
        "evaluation.evaluate_before_training": "false",
        "evaluation.evaluation_interval": "null",
        "env_runners.num_env_runners": 0,
        "stop.training_iteration": 1,
    }
    settings = [word for name, value in overrides.items() for word in ("--set", f"{name}={value}")]
    code, out, err = _command(
        "train", "tiny_arithmetic", "--storage", "runs", *settings, folder=folder
    )
    assert code == 0, out + err
    (line,) = [line for line in out.splitlines() if line.lstrip().startswith("checkpoint ")]
    return Path(line.split()[-1])


@pytest.fixture(scope="module")
def whole(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The checkpoint on the problems of its own run, undisturbed; and what that printed."""
    folder = tmp_path_factory.mktemp("whole")
    code, out, err = _command("evaluate", checkpoint, *AGAIN, "--output", "results", folder=folder)
    assert (code, err) == (0, ""), out + err
    return folder, out


def test_a_checkpoint_is_evaluated_on_the_held_out_problems_of_its_run(
    whole: tuple[Path, str],
) -> None:
    folder, out = whole
    told = json.loads((folder / "figures.json").read_text())
    assert {"avg@4", "pass@4", "maj@4", "problems", "seconds"} <= set(told)
    assert (told["problems"], told["responses"]) == (24, 96)
    assert 0 <= told["avg@4"] <= told["pass@4"] <= 1
    assert "on Arithmetic-v0 (24 problems): k=4, temperature 1.0, top_p 1.0, up to 8 tokens" in out
    settings = json.loads((folder / "results" / "settings.json").read_text())
    assert settings["datasets"]["Arithmetic-v0"]["env_config"] == {
        "max_operand": 9,
        "split": "heldout",
    }


def test_what_is_printed_is_lines_and_a_table(whole: tuple[Path, str]) -> None:
    out = whole[1]
    assert all(character.isprintable() or character == "\n" for character in out)
    ours = ("evaluate: ", "results: ", "Arithmetic-v0  ", "  ")
    assert [line for line in out.splitlines() if not line.startswith(ours)] == []
    header, row = out.splitlines()[-2:]
    assert header.split()[:4] == ["avg@4", "pass@4", "maj@4", "reward"]
    assert row.split()[0] == "Arithmetic-v0"


def test_everything_is_kept(whole: tuple[Path, str]) -> None:
    results = whole[0] / "results"
    told = _figures(whole[0] / "figures.json")
    responses = _responses(results, "Arithmetic-v0")
    assert len(responses) == 96
    assert responses["is_correct"].mean() == pytest.approx(told["avg@4"])
    problems = pandas.read_parquet(results / "problems" / "Arithmetic-v0.parquet")
    assert problems["seed"].tolist() == list(range(24))
    assert problems["maj@4"].mean() == pytest.approx(told["maj@4"])
    assert _figures(results / "summary.json") == told
    assert (results / "accuracy.png").stat().st_size > 10_000


def test_the_same_seed_gives_the_same_again_and_another_one_does_not(
    checkpoint: Path, whole: tuple[Path, str], tmp_path: Path
) -> None:
    code, _, err = _command("evaluate", checkpoint, *AGAIN, "--output", "results", folder=tmp_path)
    assert code == 0, err
    assert _figures(tmp_path / "figures.json") == _figures(whole[0] / "figures.json")
    first, again = (
        _responses(folder / "results", "Arithmetic-v0") for folder in (whole[0], tmp_path)
    )
    pandas.testing.assert_frame_equal(first, again)
    code, _, err = _command(
        "evaluate", checkpoint, *AGAIN, "--seed", 6, "--output", "other", folder=tmp_path
    )
    assert code == 0, err
    assert (
        _responses(tmp_path / "other", "Arithmetic-v0")["response"].tolist()
        != first["response"].tolist()
    )


@pytest.mark.parametrize(
    "sent", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_an_interrupted_evaluation_goes_on_to_the_same_end(
    checkpoint: Path, whole: tuple[Path, str], tmp_path: Path, sent: signal.Signals
) -> None:
    arguments = [checkpoint, *AGAIN, "--output", "results"]
    process = _start("evaluate", *arguments, folder=tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if "/24 problems" in line and "evaluate:" not in line:
            process.send_signal(sent)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130}[sent]
    if sent is signal.SIGINT:
        assert (
            err
            == f"interrupted: the same command with --output {tmp_path / 'results'} goes on where it stopped\n"
        )
    done = len(list((tmp_path / "results" / "responses" / "Arithmetic-v0").glob("part-*.parquet")))
    assert 0 < done < 12
    assert not (tmp_path / "figures.json").exists()

    code, out, err = _command("evaluate", *arguments, folder=tmp_path)
    assert code == 0, err
    assert any(
        line.startswith("goes on: ") and line.endswith("of 12 parts are there")
        for line in out.splitlines()
    )
    assert _figures(tmp_path / "figures.json") == _figures(whole[0] / "figures.json")
    first, again = (
        _responses(folder / "results", "Arithmetic-v0") for folder in (whole[0], tmp_path)
    )
    pandas.testing.assert_frame_equal(first, again)


def test_a_finished_evaluation_is_told_again_without_an_engine(
    checkpoint: Path, whole: tuple[Path, str]
) -> None:
    folder, out = whole
    before = _figures(folder / "figures.json")
    arguments = [checkpoint, *AGAIN, "--output", "results", "--num-env-runners", 1]
    code, again, err = _command("evaluate", *arguments, folder=folder)
    assert code == 0, err
    assert "goes on: 12 of 12 parts are there" in again
    assert again.splitlines()[-2:] == out.splitlines()[-2:]
    assert _figures(folder / "figures.json") == before


def test_several_data_sets_come_out_of_one_run(raw_model: Path, tmp_path: Path) -> None:
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
    arguments = [
        raw_model,
        "--file",
        "both.yaml",
        "--k",
        3,
        *QUICK,
        *SHORT,
        "--json",
        "figures.json",
        "--output",
        "out",
    ]
    code, out, err = _command("evaluate", *arguments, folder=tmp_path)
    assert (code, err) == (0, ""), out + err
    told = _figures(tmp_path / "figures.json")
    assert {name: (one["problems"], one["responses"]) for name, one in told.items()} == {
        "file": (3, 9),
        "sums": (2, 6),
    }
    assert (
        "3 problems; left out 9 duplicates" in out
    )  # each is asked once, whatever the file repeats
    assert [line.split()[0] for line in out.splitlines()[-2:]] == ["file", "sums"]


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
        "evaluation_samples_per_prompt=0 must be at least 1",
    ),
    "too many samples": (["MODEL", *SUMS, "--k", "4000"], "k=4000 must be at most 1024"),
    "no nucleus": (
        ["MODEL", *SUMS, "--top-p", "1.5"],
        "evaluation.evaluation_top_p=1.5 must lie in (0, 1]",
    ),
    "no temperature": (
        ["MODEL", *SUMS, "--temperature", "0"],
        "evaluation.evaluation_temperature=0",
    ),
    "no problems": (
        ["MODEL", *SUMS, "--limit", "0"],
        "evaluation_num_prompts=0 must be at least 1",
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
        "has room for: lower them",
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

# Imports take seconds, so all commands run in one process, which tells what it has loaded in the
# end.
_TOGETHER = """
import json, sys
from typer.testing import CliRunner
from rllib_dapo.cli import app

outcomes = {}
for name, arguments in json.loads(sys.argv[1]).items():
    outcome = CliRunner().invoke(app, arguments)
    error = "" if outcome.exception is None else repr(outcome.exception)
    outcomes[name] = [outcome.exit_code, outcome.stdout, outcome.stderr, error]
import ray
print(json.dumps({"outcomes": outcomes, "vllm": "vllm" in sys.modules, "ray": ray.is_initialized()}))
"""


@pytest.fixture(scope="module")
def told(
    checkpoint: Path,
    raw_model: Path,
    whole: tuple[Path, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("empty")
    places = {
        "MODEL": str(raw_model),
        "CHECKPOINT": str(checkpoint),
        "THERE": str(whole[0] / "results"),
    }
    commands = {
        name: [
            "evaluate",
            *(places.get(a, a) for a in arguments),
            *([] if "THERE" in arguments else ["--output", "new"]),
        ]
        for name, (arguments, _) in REFUSED.items()
    }
    done = subprocess.run(
        [sys.executable, "-c", _TOGETHER, json.dumps(commands)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir()), "a refused command left something behind"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_in_one_line(told: dict[str, Any], name: str) -> None:
    code, out, err, error = told["outcomes"][name]
    assert (code, out, error) == (2, "", "SystemExit(2)"), err
    assert REFUSED[name][1] in err
    assert err.count("\n") == 1


def test_nothing_is_started_to_refuse(told: dict[str, Any]) -> None:
    assert (told["vllm"], told["ray"]) == (False, False)
