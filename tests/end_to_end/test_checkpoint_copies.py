"""A checkpoint that was copied elsewhere gives the figures of its run, and so does its export."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.checkpoint.manifest import MANIFEST

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]
FIGURES = ("avg@3", "pass@3", "maj@3", "problems")


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """A checkpoint of a run that nothing of Tune's lies beside, and what the run has measured.

    Attributes:
        folder: Folder of the checkpoint.
        figures: The run's own evaluation, of the very weights that are in it.
        weights_version: Version of these weights in the run.
    """

    folder: Path
    figures: Mapping[str, Any]
    weights_version: int


@pytest.fixture(scope="module")
def saved(
    small_config: Callable[..., DAPOConfig],
    cluster: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Saved:
    config = small_config(engine="transformers").evaluation(
        evaluation_interval=1,
        evaluation_num_prompts=8,
        evaluation_samples_per_prompt=3,
        evaluation_top_p=0.9,
        evaluation_config={"env_config": {"split": "heldout"}},
    )
    config.dynamic_sampling(enabled=False)
    algo = config.build_algo()
    try:
        result = algo.train()
        folder = tmp_path_factory.mktemp("saved") / "a checkpoint"
        algo.save_to_path(folder)
        return Saved(
            folder=folder,
            figures={name: result["evaluation"]["env_runners"][name] for name in FIGURES},
            weights_version=algo._weights_version,
        )
    finally:
        algo.stop()


def _moved(saved: Saved, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved.folder, tmp_path / "elsewhere" / "renamed"))


def _figures(path: Path) -> dict[str, Any]:
    told = json.loads(path.read_text())
    return {name: told[name] for name in FIGURES}


def test_a_copy_gives_the_figures_of_the_run_and_so_does_its_export(
    saved: Saved, invoke_command: Run, tmp_path: Path
) -> None:
    assert saved.weights_version > 0
    copy = _moved(saved, tmp_path)
    options = [
        "--env",
        "rllib_dapo/Arithmetic-v0",
        "--k",
        "3",
        "--set",
        "language_model.num_threads=1",
    ]
    done = invoke_command(
        *("evaluate", copy, *options, "--json", "copy.json", "--output", "out"), folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "assumed" not in done.stdout
    assert "in the run)" not in done.stdout
    assert _figures(tmp_path / "copy.json") == saved.figures

    exported = invoke_command("export", copy, "a model", folder=tmp_path)
    assert exported.returncode == 0, exported.stderr
    shutil.rmtree(copy)
    done = invoke_command(
        *("evaluate", "a model", *options[4:], "--json", "model.json", "--output", "out2"),
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert _figures(tmp_path / "model.json") == saved.figures


def test_a_run_may_be_evaluated_greedily(saved: Saved, invoke_command: Run, tmp_path: Path) -> None:
    done = invoke_command(
        *("evaluate", f"file://{saved.folder}", "--temperature", "0", "--limit", "4"),
        *("--json", "greedy.json", "--output", "out"),
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "at temperature 0 all responses to a problem are equal" in done.stdout
    told = json.loads((tmp_path / "greedy.json").read_text())
    assert told["avg@1"] == told["pass@1"]
    assert (told["problems"], told["responses"]) == (4, 4)


def test_an_algorithm_comes_back_from_a_relative_path(
    saved: Saved, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved.folder.parent)
    algo = DAPO.from_checkpoint(saved.folder.name)
    try:
        assert algo.training_iteration == 1
        assert algo._weights_version == saved.weights_version
    finally:
        algo.stop()


@pytest.mark.parametrize("path", ["nowhere", "~/nowhere", "file:///nowhere", Path("nowhere")])
def test_a_checkpoint_that_is_not_there_is_refused_in_one_line(path: str | Path) -> None:
    with pytest.raises(ValueError, match="there is no such checkpoint") as caught:
        DAPO.from_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_was_cut_short_is_refused_before_anything_is_built(
    saved: Saved, tmp_path: Path
) -> None:
    copy = _moved(saved, tmp_path)
    (copy / MANIFEST).unlink()
    with pytest.raises(ValueError, match="is not a whole checkpoint"):
        DAPO.from_checkpoint(copy)
