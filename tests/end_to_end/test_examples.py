"""The examples, as a shell runs them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDS_REASONING_GYM = pytest.mark.skipif(
    find_spec("reasoning_gym") is None, reason="needs the package reasoning-gym"
)


@pytest.fixture
def run_example(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> Callable[..., list[str]]:
    """Runs an example and gives the lines that it printed."""

    def run(name: str, *arguments: object) -> list[str]:
        done = run_python(EXAMPLES / name, *arguments, folder=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    return run


@pytest.mark.slow
def test_a_custom_environment_trains(
    run_example: Callable[..., list[str]], raw_model: Path
) -> None:
    lines = run_example("custom_environment.py", raw_model, "1", "transformers")
    assert lines[-1].startswith("iteration 1: accuracy 0.")


def test_the_custom_environment_is_short() -> None:
    assert len((EXAMPLES / "custom_environment.py").read_text().splitlines()) < 60


@pytest.mark.slow
def test_the_calculator_example_shows_episodes_before_and_after(
    run_example: Callable[..., list[str]], raw_model: Path
) -> None:
    lines = run_example("calculator.py", "1", raw_model, "transformers")
    assert sum(line.startswith("  problem:") for line in lines) == 2
    assert any(line.startswith("iteration 1: accuracy 0.") for line in lines)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("openenv") is None, reason="needs the package openenv")
def test_an_environment_on_a_server_trains(
    run_example: Callable[..., list[str]], raw_model: Path
) -> None:
    lines = run_example("openenv.py", raw_model, "1", "transformers")
    assert lines[-1].startswith("iteration 1: accuracy 0.")
    assert lines[-1].endswith("missing 0.000")


@pytest.fixture
def small_and_quick(raw_model: Path) -> dict[str, object]:
    """Overrides with which the run file of reasoning-gym's tasks trains in seconds."""
    return {
        "language_model.name": raw_model,
        "language_model.dtype": "float32",
        "language_model.num_threads": 1,
        "rollout.engine": "transformers",
        "rollout.max_response_tokens": 16,
        "env_runners.num_env_runners": 0,
    }


@pytest.mark.slow
@NEEDS_REASONING_GYM
def test_the_run_file_of_five_tasks_trains_one(
    run_command: Callable[..., subprocess.CompletedProcess[str]],
    small_and_quick: Mapping[str, object],
    tmp_path: Path,
) -> None:
    settings = {
        **small_and_quick,
        "environment.env_config.task": "gcd",
        "stop.training_iteration": 1,
    }
    file = EXAMPLES / "reasoning_gym.yaml"
    done = run_command("train", file, "--storage", "runs", folder=tmp_path, settings=settings)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = tmp_path.glob("runs/*/*/result.json")
    assert json.loads(result.read_text())["learners"]["default_policy"]["gradient_updates"] >= 1


@pytest.mark.exhaustive
@NEEDS_REASONING_GYM
def test_five_tasks_train_three_iterations_each_with_one_line_changed(
    run_example: Callable[..., list[str]], tmp_path: Path, small_and_quick: Mapping[str, object]
) -> None:
    lines = run_example(
        "reasoning_gym.py", *(f"{name}={value}" for name, value in small_and_quick.items())
    )
    assert sum(line.startswith("3/3 ") for line in lines) == 5
    assert sum("in the last iteration" in line for line in lines) == 5
    results = sorted((tmp_path / "outputs" / "reasoning_gym").glob("*/*/*/result.json"))
    assert len(results) == 5
    for result in results:
        iterations = [json.loads(line) for line in result.read_text().splitlines()]
        assert len(iterations) == 3
        updates = [
            iteration["learners"]["default_policy"]["gradient_updates"] for iteration in iterations
        ]
        assert min(updates) >= 1, result


@pytest.fixture
def tracked(quick_settings: Mapping[str, object]) -> list[str]:
    """Overrides for a short run that is evaluated as the preset is."""
    settings = {
        **quick_settings,
        "evaluation.evaluation_samples_per_prompt": 8,
        "stop.training_iteration": 2,
    }
    return [f"{name}={value}" for name, value in settings.items()]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mlflow") is None, reason="needs the package mlflow-skinny")
def test_mlflow_gets_every_figure(
    run_example: Callable[..., list[str]], tmp_path: Path, tracked: list[str]
) -> None:
    lines = run_example("mlflow_tracking.py", *tracked)
    assert lines[-1].startswith("accuracy 0.")
    with sqlite3.connect(tmp_path / "outputs" / "mlflow" / "mlflow.db") as store:
        rows = store.execute(
            "select key, step from metrics where key like 'env_runners/accuracy'"
        ).fetchall()
        evaluations = store.execute(
            "select count(*) from metrics where key like '%avg_at_8'"
        ).fetchone()
        settings = dict(store.execute("select key, value from params").fetchall())
    assert len(rows) == 2
    assert evaluations[0] >= 1
    assert settings["epsilon_high"] == "0.28"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("wandb") is None, reason="needs the package wandb")
def test_wandb_keeps_a_run_without_an_account(
    run_example: Callable[..., list[str]], tmp_path: Path, tracked: list[str]
) -> None:
    lines = run_example("wandb_tracking.py", *tracked)
    assert lines[-1].startswith("accuracy 0.")
    (kept,) = (tmp_path / "outputs" / "wandb" / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"rollout_tokens_per_second" in kept.read_bytes()


@pytest.mark.slow
def test_figures_of_ones_own_reach_results_and_tensorboard(
    run_example: Callable[..., list[str]], tmp_path: Path, tracked: list[str]
) -> None:
    lines = run_example("own_figures.py", *tracked)
    assert lines[-1].startswith("a right answer takes ")
    (results,) = tmp_path.glob("outputs/own_figures/own_figures/*/result.json")
    for result in map(json.loads, results.read_text().splitlines()):
        assert result["seconds_per_right_answer"] > 0
        assert 0 <= result["env_runners"]["begins_with_minus"] <= 1
    (curves,) = results.parent.glob("events.out.tfevents.*")
    assert b"seconds_per_right_answer" in curves.read_bytes()
    assert b"begins_with_minus" in curves.read_bytes()


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_is_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) <= 150


@pytest.mark.slow
def test_the_environment_of_the_example_is_sound(
    run_command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_command(
        *("check-env", "custom_environment:LastDigitEnv"),
        folder=EXAMPLES,
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert (done.returncode, done.stdout) == (
        0,
        "custom_environment:LastDigitEnv: no faults found\n",
    ), done.stderr


@pytest.mark.slow
def test_a_quiet_sweep_prints_its_own_lines_alone(
    run_python: Callable[..., subprocess.CompletedProcess[str]], raw_model: Path, tmp_path: Path
) -> None:
    done = run_python(EXAMPLES / "quiet_sweep.py", raw_model, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "lr 0.0001",
        "lr 0.001",
    ]
