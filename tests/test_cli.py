"""What the command refuses: one line, exit code 2, and nothing is loaded or started."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TINY = ["train", "tiny_arithmetic"]


def _set(*overrides: str) -> list[str]:
    return [*TINY, *(word for override in overrides for word in ("--set", override))]


REFUSED = {
    "a misspelt key": (
        _set("training.epsilon_hihg=0.3"),
        "'training.epsilon_hihg'; did you mean 'training.epsilon_high'?",
    ),
    "a misspelt section": (
        _set("trainng.lr=1"),
        "unknown section 'trainng'; did you mean 'training'?",
    ),
    "an unknown environment": (
        _set("environment.env=rllib_dapo/Arithmatic-v0"),
        "environment.env='rllib_dapo/Arithmatic-v0': no such environment; "
        "did you mean 'rllib_dapo/Arithmetic-v0'?",
    ),
    "an environment in no module": (
        _set("environment.env=nowhere:Env"),
        "module nowhere cannot be imported",
    ),
    "a class in no module": (_set("environment.env=json:Env"), "module json has no class 'Env'"),
    "an environment without text": (
        _set("environment.env=CartPole-v1", "environment.env_config.max_operand=null"),
        "CartPole-v1",
    ),
    "a misspelt setting of the environment": (
        _set("environment.env_config.digit=1"),
        "environment.env_config of rllib_dapo/Arithmetic-v0: "
        "ArithmeticEnv: unknown setting 'digit'",
    ),
    "a misspelt setting of the evaluation's environment": (
        _set("evaluation.evaluation_config.env_config.splitt=heldout"),
        "evaluation.evaluation_config.env_config of rllib_dapo/Arithmetic-v0: "
        "ArithmeticEnv: unknown setting 'splitt'",
    ),
    "a missing data file": (
        [
            "train",
            "smollm2_mawps",
            "--set",
            "language_model.name=tiny",
            "--set",
            "environment.env_config.path=no.jsonl",
        ],
        "no.jsonl': no such file",
    ),
    "a missing model folder": (
        _set("language_model.name=./nowhere"),
        "language_model.name='./nowhere': there is no such",
    ),
    "a misspelt model": (
        _set("language_model.name=tinny"),
        "language_model.name='tinny': unknown model; did you mean \"tiny\"?",
    ),
    "epsilon_low over 1": (
        _set("training.epsilon_low=1.5"),
        "training.epsilon_low=1.5 must lie in (0, 1)",
    ),
    "epsilon_low of 0": (
        _set("training.epsilon_low=0"),
        "training.epsilon_low=0 must lie in (0, 1)",
    ),
    "epsilon_high under epsilon_low": (
        _set("training.epsilon_high=0.1"),
        "training.epsilon_high=0.1 must not be under epsilon_low=0.2",
    ),
    "a group of one": (_set("training.group_size=1"), "training.group_size=1 must be at least 2"),
    "a mini-batch that does not divide": (
        _set("training.minibatch_size=100"),
        "training.minibatch_size=100 does not divide "
        "prompts_per_step * group_size = 16 * 16 = 256: try 128",
    ),
    "the end of a search space": (
        _set("search.training.epsilon_low={uniform: [0.1, 0.5]}"),
        "training.epsilon_high=0.28 must not be under epsilon_low=0.5",
    ),
    "more than any machine has": (
        _set("env_runners.num_env_runners=100000"),
        "asks for 100001 CPUs (main 1 x 1, EnvRunners 100000 x 1)",
    ),
    "a misspelt preset": (
        ["train", "tiny_arithmatic"],
        "nor a preset; did you mean 'tiny_arithmetic'?",
    ),
    "no run to resume": (
        [*TINY, "--resume", "--storage", "nowhere"],
        "--resume: no run of 'tiny_arithmetic'",
    ),
    "no file to prepare": (
        ["prepare", "nowhere.jsonl", "new.jsonl"],
        "path='nowhere.jsonl': no such file",
    ),
    "a file to prepare of no known kind": (
        ["prepare", "nowhere.jsonl", "new.txt"],
        "new.txt: must end in .jsonl or",
    ),
    "no recording to replay": (
        ["replay", "nowhere"],
        "nowhere: no recording found: train with --set rollout.record",
    ),
    "a misspelt scheduler": (
        _set("tune.scheduler.type=ahsa"),
        "tune.scheduler.type='ahsa' must be one of fifo",
    ),
    "no checkpoint to export": (["export", "nowhere", "model"], "nowhere holds no trained model"),
}
GREETED = {"help": ["--help"], "help of train": ["train", "--help"], "presets": ["presets"]}


@pytest.fixture(scope="module")
def told(run_together: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return run_together({name: arguments for name, (arguments, _) in REFUSED.items()} | GREETED)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_in_one_line(told: dict[str, Any], name: str) -> None:
    code, out, err, error = told["outcomes"][name]
    assert (code, out, error) == (2, "", "SystemExit(2)")
    assert REFUSED[name][1] in err
    assert err.endswith("\n")
    assert err.count("\n") == 1


def test_nothing_is_loaded_or_started_to_refuse(told: dict[str, Any]) -> None:
    assert told["heavy"] == []
    assert told["ray"] is False


def test_help_names_the_commands(told: dict[str, Any]) -> None:
    code, out, _, _ = told["outcomes"]["help"]
    assert code == 0
    assert all(f"\n  {command} " in out for command in ("train", "export", "presets"))
    assert all(
        option in told["outcomes"]["help of train"][1]
        for option in ("--set", "--storage", "--resume")
    )


def test_presets_are_listed_with_what_they_are_for(told: dict[str, Any]) -> None:
    lines = told["outcomes"]["presets"][1].splitlines()
    files = sorted((Path(__file__).parent.parent / "tune_configs").glob("*.yaml"))
    assert [line.split()[0] for line in lines] == [file.stem for file in files]
    assert all(len(line.split()) > 5 for line in lines)


def test_a_file_is_prepared_whose_columns_are_named(
    invoke_command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text(
        "story,ask,value\nAnn has 3.,How many?,3\nA half.,How much?,1/2\nPi.,How much?,3.14\n"
    )
    prepare = ("prepare", tmp_path / "in.csv", tmp_path / "out.jsonl")
    columns = ("--question", "story", "--question", "ask", "--answer", "value")
    done = invoke_command(*prepare, *columns, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"{tmp_path / 'out.jsonl'}: 1 as they are, 1 made to ask for an integer; 1 left out\n"
    )

    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["answer"] for row in rows] == ["3", "3"]
    assert rows[0]["question"] == "Ann has 3. How many?"
    assert rows[1]["question"].startswith(
        r"A half. How much? The answer can be written as $\frac{k}{d}$ with integers"
    )
    assert [row["problem_id"] for row in rows] == ["in/0", "in/1"]

    elsewhere = ("prepare", tmp_path / "in.csv", tmp_path / "other.jsonl")
    named_wrongly = invoke_command(*elsewhere, "--question", "storry", folder=tmp_path)
    assert named_wrongly.returncode == 2
    assert (
        "columns names 'storry', but there are story, ask, value; did you mean 'story'?"
        in named_wrongly.stderr
    )
