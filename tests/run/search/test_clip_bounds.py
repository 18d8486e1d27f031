"""Two clip bounds searched for together are never the wrong way round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.tune.search.variant_generator import generate_variants

from rllib_dapo.findings import SettingsError
from rllib_dapo.run.run_settings import RunSettings, read_settings
from rllib_dapo.run.search.clip_bounds import HIGH, LOW, admissible

BASE = """
language_model: {name: tiny}
environment: {env: rllib_dapo/Arithmetic-v0, env_config: {max_operand: 9}}
training: {prompts_per_step: 4, group_size: 8, minibatch_size: 8}
"""
SPACES = {
    "two ranges": ("{uniform: [0.1, 0.4]}", "{uniform: [0.15, 0.5]}"),
    "logarithmic ranges": ("{loguniform: [0.05, 0.4]}", "{loguniform: [0.1, 0.4]}"),
    "choices": ("{choice: [0.1, 0.2, 0.3]}", "{choice: [0.2, 0.3]}"),
    "a grid below": ("{grid: [0.1, 0.2, 0.3]}", "{uniform: [0.1, 0.5]}"),
    "a grid above": ("{uniform: [0.1, 0.5]}", "{grid: [0.2, 0.3]}"),
    "a grid above choices": ("{choice: [0.1, 0.3]}", "{grid: [0.2, 0.4]}"),
}


def _read(folder: Path, low: str, high: str) -> RunSettings:
    file = folder / "run.yaml"
    file.write_text(
        f"{BASE}search:\n  training.epsilon_low: {low}\n  training.epsilon_high: {high}\n"
    )
    return read_settings(file)


def _pairs(run: RunSettings, times: int = 1, seed: int = 0) -> list[tuple[float, float]]:
    """What Tune makes of a run file."""
    rng = np.random.RandomState(seed)
    specs = [
        s
        for _ in range(times)
        for _, s in generate_variants({"config": run.config.to_dict()}, random_state=rng)
    ]
    return [(spec["config"]["epsilon_low"], spec["config"]["epsilon_high"]) for spec in specs]


@pytest.mark.parametrize("name", SPACES)
def test_no_pair_is_drawn_the_wrong_way_round(tmp_path: Path, name: str) -> None:
    run = _read(tmp_path, *SPACES[name])
    pairs = _pairs(run, times=100)
    assert all(low <= high for low, high in pairs)
    assert len({low for low, _ in pairs}) > 1
    assert len({high for _, high in pairs}) > 1
    assert _pairs(run, times=5, seed=3) == _pairs(run, times=5, seed=3)
    assert all(config.epsilon_low <= config.epsilon_high for config in run.checked)


def test_of_two_grids_the_inadmissible_pairs_are_left_out(tmp_path: Path) -> None:
    run = _read(tmp_path, "{grid: [0.1, 0.2, 0.3]}", "{grid: [0.2, 0.28, 0.4]}")
    pairs = [(low, high) for low in (0.1, 0.2, 0.3) for high in (0.2, 0.28, 0.4) if low <= high]
    assert sorted(_pairs(run)) == sorted(pairs)


def test_two_grids_without_such_a_pair_stay_as_they_are(tmp_path: Path) -> None:
    run = _read(tmp_path, "{grid: [0.1, 0.2]}", "{grid: [0.2, 0.28]}")
    assert run.config.epsilon_low == {"grid_search": [0.1, 0.2]}
    assert len(_pairs(run)) == 4


@pytest.mark.parametrize(
    ("low", "high", "value"),
    [
        (
            "{uniform: [0.1, 0.5]}",
            "{uniform: [0.1, 0.4]}",
            "0.4 is under the end of search.training.epsilon_low",
        ),
        ("{grid: [0.3]}", "{grid: [0.1, 0.2]}", "0.2 is under all of search.training.epsilon_low"),
        (
            "{uniform: [0.3, 0.5]}",
            "{grid: [0.2, 0.6]}",
            "0.2 is under all of search.training.epsilon_low",
        ),
    ],
)
def test_a_bound_without_a_partner_is_refused_in_one_line(
    tmp_path: Path, low: str, high: str, value: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        _read(tmp_path, low, high)
    assert value in str(refused.value)
    assert "run.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_ends_of_spaces_are_made_a_pair_that_can_be_checked() -> None:
    search: dict[str, Any] = {LOW: {"uniform": [0.1, 0.3]}, HIGH: {"uniform": [0.15, 0.5]}}
    assert admissible({LOW: 0.3, HIGH: 0.15}, search) == {LOW: 0.3, HIGH: 0.5}
    assert admissible({LOW: 0.1, HIGH: 0.15}, search) == {LOW: 0.1, HIGH: 0.15}
