"""Two clip bounds searched for together are never the wrong way round."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.search.variant_generator import generate_variants

from rllib_dapo.findings import SettingsError
from rllib_dapo.run.run_settings import RunSettings, read_settings
from rllib_dapo.run.search.clip_bounds import HIGH, LOW, admissible
from rllib_dapo.run.search.mutations import Mutations
from rllib_dapo.run.search.search_spaces import quantile
from rllib_dapo.run.search.searchers import OptunaSpace

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


def test_a_quantile_of_a_space_lies_where_it_should() -> None:
    assert quantile({"uniform": [1.0, 3.0]}, 0.25) == 1.5
    assert quantile({"loguniform": [0.01, 1.0]}, 0.5) == pytest.approx(0.1)
    assert [quantile({"choice": [1.0, 2.0, 4.0]}, share) for share in (0.0, 0.34, 0.99)] == [
        1.0,
        2.0,
        4.0,
    ]


def test_ends_of_spaces_are_made_a_pair_that_can_be_checked() -> None:
    search: dict[str, Any] = {LOW: {"uniform": [0.1, 0.3]}, HIGH: {"uniform": [0.15, 0.5]}}
    assert admissible({LOW: 0.3, HIGH: 0.15}, search) == {LOW: 0.3, HIGH: 0.5}
    assert admissible({LOW: 0.1, HIGH: 0.15}, search) == {LOW: 0.1, HIGH: 0.15}


@settings(max_examples=200, deadline=None)
@given(low=st.floats(0.01, 2.0), high=st.floats(0.01, 2.0))
@pytest.mark.parametrize(
    "search",
    [
        {LOW: {"uniform": [0.1, 0.4]}, HIGH: {"uniform": [0.1, 0.5]}},
        {HIGH: {"loguniform": [0.2, 0.5]}},
        {LOW: {"uniform": [0.1, 0.2]}},
        {LOW: {"choice": [0.1, 0.3]}, HIGH: {"choice": [0.2, 0.3, 0.4]}},
    ],
)
def test_a_perturbed_pair_is_brought_back_into_its_spaces(
    search: dict[str, Any], low: float, high: float
) -> None:
    # What is not searched for has its value from the start; what is chosen among values is one of
    # them.
    low = {"choice": 0.3}.get(
        next(iter(search.get(LOW, {"none": 0}))), low if LOW in search else 0.2
    )
    high = {"choice": 0.2}.get(
        next(iter(search.get(HIGH, {"none": 0}))), high if HIGH in search else 0.28
    )
    config = Mutations(search)({"epsilon_low": low, "epsilon_high": high, "lr": 1.0})
    assert config["epsilon_low"] <= config["epsilon_high"]
    for name, attribute in ((LOW, "epsilon_low"), (HIGH, "epsilon_high")):
        kind, values = next(
            iter(search.get(name, {"none": [low if name == LOW else high]}).items())
        )
        if kind in ("uniform", "loguniform"):
            assert values[0] <= config[attribute] <= values[1]
        else:
            assert config[attribute] in values
    assert config["lr"] == 1.0


def test_mutations_are_drawn_from_the_searched_spaces_by_attribute() -> None:
    search: dict[str, Any] = {
        HIGH: {"uniform": [0.1, 0.5]},
        "kl.coefficient": {"choice": [0.0, 0.1]},
        "environment.env_config.max_operand": {"grid": [4, 9]},
    }
    drawn = Mutations(search).distributions()
    assert (drawn["epsilon_high"].lower, drawn["epsilon_high"].upper) == (0.1, 0.5)
    assert drawn["kl_coefficient"] == [0.0, 0.1]
    assert drawn["env_config"] == {"max_operand": [4, 9]}
    config = {
        "epsilon_low": 0.2,
        "epsilon_high": 0.6,
        "kl_coefficient": 0.1,
        "env_config": {"max_operand": 4},
    }
    assert Mutations(search)(config)["epsilon_high"] == 0.5


def test_what_optuna_suggests_is_never_the_wrong_way_round() -> None:
    asked: list[tuple[str, float, float]] = []

    def suggest_float(name: str, low: float, high: float, *, log: bool) -> float:
        asked.append((name, low, high))
        return high if name == "epsilon_low" else low

    suggest = OptunaSpace({HIGH: {"uniform": [0.1, 0.5]}, LOW: {"uniform": [0.1, 0.4]}})
    assert suggest(SimpleNamespace(suggest_float=suggest_float)) == {
        "epsilon_low": 0.4,
        "epsilon_high": 0.4,
    }
    assert asked == [("epsilon_low", 0.1, 0.4), ("epsilon_high", 0.4, 0.5)]
