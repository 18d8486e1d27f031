"""The command: what it prints, its exit codes, and what it refuses in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rllib_dapo.cli import app


def _plan(*words: object) -> Result:
    return CliRunner().invoke(app, ["plan", *map(str, words)])


def test_a_run_that_fits(tmp_path: Path) -> None:
    result = _plan("one_node_7b", "--gpu", "h100-80gb", "--json", tmp_path / "plan.json")
    assert result.exit_code == 0, result.output
    assert "7.62 billion parameters" in result.output
    assert "it fits" in result.output
    assert max(map(len, result.output.splitlines())) <= 80

    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["findings"] == []
    assert plan["model"]["parameters"] == 7_615_616_512
    assert plan["learners"]["device_bytes"]["weights"] == 2 * 7_615_616_512 / 4
    assert plan["step"]["transfer_bytes"] == 2 * 7_615_616_512


def test_a_run_that_does_not_fit_says_what_to_change() -> None:
    result = _plan("dapo", "--gpu", "h100-80gb")
    assert result.exit_code == 1
    last = result.output.splitlines()[-1]
    assert last.startswith("does not fit: a Learner needs")
    assert "set learners.num_learners to 16" in last


def test_what_it_says_to_change_makes_it_fit() -> None:
    result = _plan(
        "dapo",
        "--gpu",
        "h100-80gb",
        "--set",
        "learners.num_learners=16",
        "--set",
        "deepspeed.config={zero_optimization: {stage: 3}}",
    )
    assert result.exit_code == 0, result.output


def test_without_a_kind_of_gpu_the_need_is_shown_all_the_same() -> None:
    result = _plan("dapo_qwen2.5_32b")
    assert result.exit_code == 1
    assert "name the kind that it will have, as in --gpu h100-80gb" in result.output
    assert "seconds" in result.output


def test_every_variant_of_a_sweep_is_planned() -> None:
    result = _plan("table1", "--memory-gib", "64")
    assert result.exit_code == 0, result.output


REFUSED = {
    "no such file": (["nowhere"], "no such file, nor a preset"),
    "a misspelt setting": (["dapo", "--set", "training.lrr=1"], "did you mean 'training.lr'?"),
    "a wrong value": (["dapo", "--set", "training.epsilon_low=-1"], "training.epsilon_low=-1"),
    "a file for evaluations": (["evaluate_aime2024"], "section 'datasets'"),
    "a base without a model": (["two_cores"], "language_model.name is not set"),
    "an unknown GPU": (["dapo", "--gpu", "h1000"], "no such GPU is known"),
    "GPUs of no kind": (["dapo", "--nodes", "2"], "add --gpu h100-80gb"),
    "two descriptions": (
        ["dapo", "--gpu", "h100", "--hardware", "machines.yaml"],
        "--hardware describes the machines",
    ),
    "no description": (["dapo", "--hardware", "none.yaml"], "No such file"),
    "a model that is not at hand": (
        ["dapo", "--set", "language_model.name=some-lab/secret-7b"],
        "some-lab/secret-7b",
    ),
    "a contradiction in DeepSpeed's settings": (
        ["dapo", "--set", "deepspeed.config={fp16: {enabled: true}}"],
        "deepspeed.config: fp16 is set",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_settings_are_refused_in_one_line(case: str) -> None:
    words, told = REFUSED[case]
    result = _plan(*words)
    assert result.exit_code == 2, result.output
    assert told in result.output
    assert len(result.output.splitlines()) == 1


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    target.write_text("mine")
    result = _plan("tiny_arithmetic", "--json", target)
    assert result.exit_code == 2
    assert "exists already" in result.output
    assert target.read_text() == "mine"
    assert _plan("tiny_arithmetic", "--json", target, "--overwrite").exit_code == 0
    assert json.loads(target.read_text())["name"] == "tiny_arithmetic"
