"""A recorded run, replayed without a sampler: the same updates under its own settings."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rllib_dapo.cli import app
from rllib_dapo.findings import SettingsError
from rllib_dapo.replay.replay_table import RECORDED, read_replay, run_replay
from rllib_dapo.tracking.recording import read_recording

ITERATIONS = 3
COMPARED = (
    "policy_loss",
    "total_loss",
    "kl",
    "entropy",
    "clip_fraction_low",
    "clip_fraction_high",
    "ratio_max",
    "gradient_norm",
    "trained_tokens",
    "default_optimizer_learning_rate",
)


@pytest.fixture
def recorded(recorded_run: Any) -> tuple[Path, list[Mapping[str, Any]]]:
    """A run's folder, and what its Learner said in each iteration."""
    said = [result["learners"]["default_policy"] for result in recorded_run.results]
    return recorded_run.trial, said


def test_under_its_own_settings_a_replay_is_the_run(
    recorded: tuple[Path, list[Mapping[str, Any]]],
    run_command: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    """In a process of its own: an engine in this one may have changed how many threads compute."""
    folder, said = recorded
    file = tmp_path / "replay.json"
    done = run_command("replay", folder, "--json", file, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr

    (row,) = json.loads(file.read_text())
    assert row["settings"] == RECORDED
    assert [step["step"] for step in row["steps"]] == list(range(ITERATIONS))
    for step, original in zip(row["steps"], said, strict=True):
        assert original["gradient_updates"] == 2
        for name in COMPARED:
            assert step[name] == original[name], name


def test_wider_bounds_clip_less_and_the_first_steps_data_is_the_same(
    recorded: tuple[Path, list[Mapping[str, Any]]],
) -> None:
    settings = read_replay(
        recorded[0], ["training.epsilon_low=0.5", "training.epsilon_high=[0.5, 0.9]"], limit=2
    )
    run, half, most = run_replay(settings)
    assert [row.name for row in (half, most)] == [
        "training.epsilon_low=0.5, training.epsilon_high=0.5",
        "training.epsilon_low=0.5, training.epsilon_high=0.9",
    ]
    assert (
        run.summarized("clip_fraction_high")
        >= half.summarized("clip_fraction_high")
        >= most.summarized("clip_fraction_high")
    )
    assert run.summarized("clip_fraction_low") > half.summarized("clip_fraction_low")
    assert {len(row.steps) for row in (run, half, most)} == {2}
    assert run.steps[0]["shaped_reward_mean"] == most.steps[0]["shaped_reward_mean"]


def test_the_command_prints_a_table_and_writes_every_figure(
    recorded: tuple[Path, list[Mapping[str, Any]]], tmp_path: Path
) -> None:
    files = {"--json": tmp_path / "replay.json", "--csv": tmp_path / "replay.csv"}
    options = [str(word) for option in files.items() for word in option]
    done = CliRunner().invoke(
        app,
        [
            "replay",
            str(recorded[0]),
            "--steps",
            "1",
            "--set",
            "training.epsilon_high=[0.2, 0.4]",
            *options,
        ],
    )
    assert done.exit_code == 0, done.output
    lines = [
        line for line in done.stdout.splitlines() if line.startswith(("  ", RECORDED, "training."))
    ]
    assert "clip low" in lines[0]
    assert [line.partition("  ")[0].strip() for line in lines[1:]] == [
        RECORDED,
        "training.epsilon_high=0.2",
        "training.epsilon_high=0.4",
    ]
    rows = json.loads(files["--json"].read_text())
    assert [len(row["steps"]) for row in rows] == [1, 1, 1]
    assert rows[0]["figures"]["entropy"] == rows[0]["steps"][0]["entropy"]
    with files["--csv"].open() as stream:
        assert [line["settings"] for line in csv.DictReader(stream)] == [
            row["settings"] for row in rows
        ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epsilon_hihg=0.3", "did you mean 'training.epsilon_high'?"),
        ("training.epsilon_high=0.00001", "must not be under epsilon_low"),
        ("training.epsilon_high=[0.3, wide]", "wide"),
        ("evaluation.evaluation_interval=1", "evaluation has no part in it"),
        ("env_runners.num_env_runners=1", "env_runners has no part in it"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_one_line(
    recorded: tuple[Path, list[Mapping[str, Any]]], override: str, message: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        read_replay(recorded[0], [override])
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_recording_that_begins_in_the_middle_asks_for_weights(
    recorded: tuple[Path, list[Mapping[str, Any]]], tmp_path: Path, raw_model: Path
) -> None:
    for step in read_recording(recorded[0])[1:]:
        (tmp_path / step.file.name).write_bytes(step.file.read_bytes())
    with pytest.raises(
        SettingsError, match="begins at step 1, but a replay begins with the start model"
    ):
        read_replay(tmp_path, [])
    settings = read_replay(tmp_path, [f"language_model.name={raw_model}"])
    assert len(settings.steps) == ITERATIONS - 1
