"""What was read from files is told at the start of a run and in the trial's folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.envs.math import MathEnv
from rllib_dapo.envs.row_counts import DATA_FILE, data_reports_from_json
from rllib_dapo.run import preflight
from rllib_dapo.run.run_settings import read_settings

Make = Callable[..., DAPOConfig]


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    """A file with eight problems, one of them twice, and a row without an answer."""
    rows = [{"question": f"{i}+{i}=", "answer": str(2 * i)} for i in range(8)]
    rows += [rows[0], {"question": "5+5="}]
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


LEFT_OUT = (
    "8 problems of 10 rows (prompt from question, answer from answer); left out: "
    "1 with the prompt of an earlier row (first: row 9), 1 with no answer (first: row 10)"
)


def test_a_run_says_at_its_start_what_it_has_read_and_left_out(
    tmp_path: Path, raw_model: Path, problems: Path
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        f"base: tiny_arithmetic\nlanguage_model: {{name: {raw_model}}}\n"
        "environment:\n  env: rllib_dapo/Math-v0\n"
        f"  env_config: {{path: {problems}, split: train, heldout_fraction: 0.5}}\n"
        "evaluation: {evaluation_config: {env_config: {split: heldout}}}\n"
    )
    settings = read_settings(file)
    train, heldout = (
        MathEnv(path=problems, split=split, heldout_fraction=0.5).problems
        for split in ("train", "heldout")
    )
    told = [line for line in preflight.warnings(settings) if "problems" in line]
    assert told[:2] == [
        f"{problems}: {LEFT_OUT}",
        f"training: {len(train)} problems are used; left out: {len(heldout)} with a place in "
        "the other split",
    ]


def test_the_trials_folder_tells_it_too(cluster: None, small_config: Make, problems: Path) -> None:
    config = small_config(engine="transformers")
    config.env = "rllib_dapo/Math-v0"
    config.env_config = {"path": str(problems), "template": "{problem}"}
    algo = config.build_algo()
    try:
        text = (Path(algo.logdir) / DATA_FILE).read_text()
    finally:
        algo.stop()
    reports = data_reports_from_json(text)
    assert reports["training"].lines() == [f"{problems}: {LEFT_OUT}"]
