"""Wrong settings and options of every command: one line with its source, and exit code 2."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("no_ray")

TRAIN = ("train", "tiny_arithmetic")


def _set(*overrides: str, command: Sequence[str] = TRAIN) -> tuple[str, ...]:
    return (*command, *(word for text in overrides for word in ("--set", text)))


# Command, and what the line begins with and holds.
WRONG: dict[str, tuple[Sequence[str], str, str]] = {
    "lr below zero": (_set("training.lr=-1"), "--set training.lr=-1: ", "training.lr=-1 must"),
    "lr that is no number": (_set("training.lr=fast"), "--set training.lr=fast: ", "a number"),
    "lr not finite": (_set("training.lr=.inf"), "--set training.lr=.inf: ", "a number"),
    "lr nan": (_set("training.lr=.nan"), "--set training.lr=.nan: ", "a number"),
    "group of a fraction": (_set("training.group_size=2.5"), "--set training.", "whole number"),
    "group that does not divide": (
        _set("training.group_size=7"),
        "--set training.group_size=7: ",
        "training.minibatch_size=64 does not divide",
    ),
    "true for a number": (_set("training.group_size=true"), "--set training.", "whole number"),
    "epsilon over one": (_set("training.epsilon_low=1.5"), "--set training.epsilon_low=", "(0, 1)"),
    "bounds in the wrong order": (
        _set("training.epsilon_high=0.1"),
        "--set training.epsilon_high=0.1: ",
        "must not be under epsilon_low",
    ),
    "a section alone": (_set("training=3"), "--set training=3: ", "section.name=value"),
    "no value": (_set("training.lr"), "--set training.lr: ", "section.name=value"),
    "no name": (_set("=3"), "--set =3: ", "section.name=value"),
    "a value that is no YAML": (_set("training.lr=[1"), "--set training.lr=[1: ", "not YAML"),
    "a misspelt section": (_set("trainng.lr=1"), "--set trainng.lr=1: ", "did you mean"),
    "a misspelt setting": (_set("training.lrr=1"), "--set training.lrr=1: ", "did you mean"),
    "a misspelt preset": (_set("preset=grop"), "--set preset=grop: ", "did you mean 'grpo'"),
    "a misspelt engine": (_set("rollout.engine=vlm"), "--set rollout.engine=vlm: ", "vllm"),
    "no such environment": (
        _set("environment.env=Maths-v0"),
        "--set environment.env=Maths-v0: ",
        "no such environment",
    ),
    "an environment that cannot be imported": (
        _set("environment.env=nowhere:Env"),
        "--set environment.env=nowhere:Env: ",
        "cannot be imported",
    ),
    "a misspelt setting of the environment": (
        _set("environment.env_config.digit=1"),
        "--set environment.env_config.digit=1: ",
        "unknown setting 'digit'",
    ),
    "a misspelt setting of the evaluation": (
        _set("evaluation.evaluation_config.env_config.splitt=heldout"),
        "--set evaluation.evaluation_config.env_config.splitt=heldout: ",
        "unknown setting 'splitt'",
    ),
    "no such model": (
        _set("language_model.name=./nowhere"),
        "--set language_model.name=./nowhere: ",
        "no such",
    ),
    "no such token mask": (
        _set("training.token_mask=nowhere:mask"),
        "--set training.token_mask=nowhere:mask: ",
        "nowhere",
    ),
    "more processes than cores": (
        _set("env_runners.num_env_runners=100000"),
        "--set env_runners.num_env_runners=100000: ",
        "asks for 100001 CPUs",
    ),
    "no trial": (_set("tune.num_samples=0"), "--set tune.num_samples=0: ", "at least 1"),
    "trials without end": (_set("tune.num_samples=-1"), "--set tune.num_samples=-1: ", "at least"),
    "trials at once below zero": (
        _set("tune.max_concurrent_trials=-1"),
        "--set tune.max_concurrent_trials=-1: ",
        "at least 0",
    ),
    "checkpoints below zero": (
        _set("tune.checkpoint_frequency=-1"),
        "--set tune.checkpoint_frequency=-1: ",
        "at least 0",
    ),
    "no checkpoint kept": (_set("tune.num_to_keep=0"), "--set tune.num_to_keep=0: ", "at least 1"),
    "failures below zero": (_set("tune.max_failures=-1"), "--set tune.max_failures=-1: ", "0"),
    "a name that leads elsewhere": (_set("tune.name=../x"), "--set tune.name=../x: ", "slashes"),
    "a name that is a path": (_set("tune.name=/tmp/x"), "--set tune.name=/tmp/x: ", "slashes"),
    "an empty name": (_set("tune.name=''"), "--set tune.name='': ", "a folder's name"),
    "a name without end": (_set(f"tune.name={'x' * 300}"), "--set tune.name=xxx", "shorter"),
    "a mode that is none": (_set("tune.mode=best"), "--set tune.mode=best: ", "max, min"),
    "a misspelt metric": (
        _set("tune.metric=env_runners/acuracy"),
        "--set tune.metric=env_runners/acuracy: ",
        "did you mean 'env_runners/accuracy'",
    ),
    "a misspelt scheduler": (
        _set("tune.scheduler.type=ahsa"),
        "--set tune.scheduler.type=ahsa: ",
        "must be one of fifo",
    ),
    "a stop at zero": (
        _set("stop.training_iteration=0"),
        "--set stop.training_iteration=0: ",
        "must be over 0",
    ),
    "a stop at a fraction": (
        _set("stop.training_iteration=2.5"),
        "--set stop.training_iteration=2.5: ",
        "whole number",
    ),
    "a stop below zero": (_set("stop.time_total_s=-3"), "--set stop.time_total_s=-3: ", "over 0"),
    "a stop that never comes": (
        _set("stop.training_iteration=.inf"),
        "--set stop.training_iteration=.inf: ",
        "finite",
    ),
    "a stop that is no number": (
        _set("stop.training_iteration=soon"),
        "--set stop.training_iteration=soon: ",
        "must be a number",
    ),
    "a stop at no metric": (
        _set("stop.training_iterations=3"),
        "--set stop.training_iterations=3: ",
        "did you mean 'training_iteration'",
    ),
    "patience that is no number": (_set("stop.patience=.nan"), "--set stop.patience=.nan: ", "1"),
    "a space without values": (
        _set("search.training.lr={grid: []}"),
        "--set search.training.lr={grid: []}: ",
        "must be one of {grid",
    ),
    "a space without an end": (
        _set("search.training.lr={uniform: [0, .inf]}"),
        "--set search.training.lr=",
        "low < high",
    ),
    "a space that is searched wrongly": (
        _set("search.training.lrr={grid: [1]}"),
        "--set search.training.lrr=",
        "did you mean",
    ),
    "the end of a space": (
        _set("search.training.epsilon_low={uniform: [0.1, 0.5]}"),
        "--set search.training.epsilon_low=",
        "must not be under epsilon_low=0.5",
    ),
    "no such run file": (("train", "tiny_arithmatic"), "tiny_arithmatic: ", "did you mean"),
    "a folder as run file": (("train", "folder"), "folder: a folder, not a run file", "run.yaml"),
    "a run as run file": (("train", "run"), "run: a folder, not a run file", "--resume"),
    "a file that is no YAML": (("train", "broken.yaml"), "broken.yaml: not YAML", "line"),
    "a file of bytes": (("train", "bytes.yaml"), "bytes.yaml: cannot be read", ""),
    "an empty file": (("train", "empty.yaml"), "empty.yaml: must hold sections", ""),
    "a fault in a base": (("train", "upper.yaml"), "lower.yaml: ", "training.lr=-1"),
    "a file for evaluate": (
        ("train", "evaluate_aime2024"),
        "",
        "makes this a file for `rllib-dapo evaluate",
    ),
    "a storage of no scheme": ((*TRAIN, "--storage", "foo://x"), "--storage foo://x: ", "scheme"),
    "a storage that is a file": (
        (*TRAIN, "--storage", "empty.yaml"),
        "--storage empty.yaml: cannot be written",
        "",
    ),
    "a storage that is a run": ((*TRAIN, "--storage", "run"), "--storage run: ", "add --resume"),
    "no run to resume": (
        (*TRAIN, "--resume", "--storage", "folder"),
        "--resume: no run of 'tiny_arithmetic'",
        "folder",
    ),
    "a run of somebody else": (
        (*TRAIN, "--resume", "--storage", "run"),
        "--resume: ",
        "run.json",
    ),
    "no run to report": (("report", "folder"), "", "no run is there"),
    "a report over something else": (("report", "folder", "--output", "notes.md"), "", "notes.md"),
    "a report of no mode": (("report", "folder", "--mode", "best"), "Usage", "--mode"),
    "no checkpoint to export": (("export", "folder", "model"), "", "no trained model"),
    "no recording": (("replay", "folder"), "folder: ", "no recording"),
    "no steps to replay": (("replay", "folder", "--steps", "0"), "Usage", "--steps"),
    "no file to prepare": (("prepare", "no.jsonl", "new.jsonl"), "", "no such file"),
    "a kind of file that is none": (("prepare", "no.jsonl", "new.txt"), "", "must end in .jsonl"),
    "another setting for an environment": (
        ("check-env", "rllib_dapo/Arithmetic-v0", "--set", "training.lr=3"),
        "--set training.lr=3: ",
        "--set env_config.digits=3",
    ),
    "a word for an environment": (
        ("check-env", "rllib_dapo/Arithmetic-v0", "--set", "foo=1"),
        "--set foo=1: ",
        "env_config.digits=3",
    ),
    "no environment to check": (("check-env", "Maths-v0"), "", "no such environment"),
    "no model to check": (("check-model", "./nowhere"), "", "./nowhere"),
    "a setting to check a model with": (
        ("check-model", "tiny", "--set", "rollout.max_response_token=3"),
        "--set rollout.max_response_token=3: ",
        "did you mean",
    ),
    "no model to evaluate": (
        ("evaluate", "./nowhere", "--env", "rllib_dapo/Arithmetic-v0"),
        "",
        "./nowhere",
    ),
    "no environment to evaluate": (("evaluate", "tiny", "--env", "Maths-v0"), "", "Maths-v0"),
    "no file to evaluate by": (("evaluate", "tiny", "--file", "nowhere.yaml"), "", "nowhere.yaml"),
    "no Ray to show": (("dashboard", "--address", "127.0.0.1:1"), "--address 127.0.0.1:1: ", "Ray"),
    "an address that is none": (
        ("dashboard", "--address", "here"),
        "--address here: ",
        "host:port",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files that are not what they are taken for."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "folder").mkdir()
    (folder / "folder" / "run.yaml").write_text("base: tiny_arithmetic\n")
    (folder / "run").mkdir()
    (folder / "run" / "tuner.pkl").touch()
    (folder / "broken.yaml").write_text("training: {lr: 1\n")
    (folder / "bytes.yaml").write_bytes(b"\xff\xfe\x00training")
    (folder / "empty.yaml").touch()
    (folder / "lower.yaml").write_text("base: tiny_arithmetic\ntraining: {lr: -1}\n")
    (folder / "upper.yaml").write_text("base: lower.yaml\n")
    (folder / "notes.md").write_text("mine\n")
    return folder


def test_there_are_many_of_them_over_all_commands() -> None:
    assert len(WRONG) >= 50
    commands = {words[0] for words, _, _ in WRONG.values()}
    assert commands == {
        *("train", "evaluate", "report", "export", "dashboard", "replay", "prepare"),
        *("check-env", "check-model"),
    }


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_one_line_with_its_source(
    invoke_command: Callable[..., subprocess.CompletedProcess[str]], folder: Path, name: str
) -> None:
    words, source, told = WRONG[name]
    before = sorted(folder.rglob("*"))
    done = invoke_command(*words, folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert lines[0].startswith(source), done.stderr
    assert told in done.stderr
    # Words that a command does not have are told by typer, in its own way.
    assert len(lines) == 1 or source == "Usage", done.stderr
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "environment", "told"),
    [
        (_set("training.lr=-1"), {}, "--set training.lr=-1: training.lr=-1 must be at least 0"),
        (TRAIN, {"RAY_ADDRESS": "127.0.0.1:1"}, "RAY_ADDRESS=127.0.0.1:1: no Ray answers at"),
    ],
)
def test_a_shell_gets_the_line_soon_and_no_traceback(
    run_command: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    words: Sequence[str],
    environment: dict[str, Any],
    told: str,
) -> None:
    began = time.process_time()
    done = run_command(*words, folder=tmp_path, environment=environment)
    assert time.process_time() - began < 10  # of this process; what it waits for is the machine's
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
