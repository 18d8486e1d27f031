"""Both clip bounds from plain Tune: grid, random search, Optuna and population based training."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from ray import tune
from ray.tune.schedulers.pbt import _explore
from ray.tune.search.variant_generator import generate_variants

from rllib_dapo import DAPOConfig, JointSpace
from rllib_dapo.findings import SettingsError

NEEDS_OPTUNA = pytest.mark.skipif(
    importlib.util.find_spec("optuna") is None, reason="optuna is not installed"
)
BOUNDS = {"epsilon_low": tune.uniform(0.1, 0.3), "epsilon_high": tune.uniform(0.15, 0.4)}


def _drawn(space: JointSpace, times: int = 1) -> list[Mapping[str, Any]]:
    """The settings of the trials that Tune makes of a configuration with this space."""
    config = DAPOConfig().language_model("tiny").update_from_dict(space.param_space())
    rng = np.random.RandomState(0)
    return [
        spec["config"]
        for _ in range(times)
        for _, spec in generate_variants({"config": config.to_dict()}, random_state=rng)
    ]


def _is_legal(config: Mapping[str, Any]) -> bool:
    DAPOConfig.from_dict(dict(config)).environment("rllib_dapo/Arithmetic-v0").validate()
    return bool(config["epsilon_low"] <= config["epsilon_high"])


def test_a_grid_tries_every_pair_in_the_right_order_and_no_other() -> None:
    grids = {"epsilon_low": [0.1, 0.2, 0.3], "epsilon_high": [0.15, 0.2, 0.25]}
    space = JointSpace(**{name: tune.grid_search(grid) for name, grid in grids.items()})
    pairs = [(one["epsilon_low"], one["epsilon_high"]) for one in _drawn(space)]
    assert sorted(pairs) == [(0.1, 0.15), (0.1, 0.2), (0.1, 0.25), (0.2, 0.2), (0.2, 0.25)]


@pytest.mark.parametrize(
    "bounds",
    [
        BOUNDS,
        {"epsilon_low": tune.choice([0.1, 0.3]), "epsilon_high": tune.loguniform(0.1, 0.4)},
        {"epsilon_low": 0.2, "epsilon_high": tune.uniform(0.1, 0.4)},
        {"epsilon_low": tune.uniform(0.1, 0.3), "epsilon_high": tune.grid_search([0.2, 0.4])},
        {"epsilon_low": tune.uniform(0.1, 0.3), "epsilon_high": 0.4},
    ],
)
def test_random_search_draws_both_bounds_in_the_right_order(bounds: dict[str, Any]) -> None:
    drawn = _drawn(JointSpace(**bounds, lr=tune.loguniform(1e-6, 1e-4)), times=50)
    assert all(one["epsilon_low"] <= one["epsilon_high"] for one in drawn)
    assert all(_is_legal(one) for one in drawn[:3])
    assert len({one["lr"] for one in drawn}) == len(drawn)
    assert len({(one["epsilon_low"], one["epsilon_high"]) for one in drawn}) > 10


@NEEDS_OPTUNA
def test_optuna_draws_both_bounds_in_the_right_order_and_learns_from_each() -> None:
    from ray.tune.search.optuna import OptunaSearch

    space = JointSpace(**BOUNDS, kl_coefficient=tune.choice([0.0, 0.1]))
    searcher = OptunaSearch(space=space.for_optuna(), metric="accuracy", mode="max", seed=0)
    for number in range(12):
        drawn = searcher.suggest(str(number))
        assert drawn is not None
        assert drawn["epsilon_low"] <= drawn["epsilon_high"]
        assert drawn["kl_coefficient"] in (0.0, 0.1)
        searcher.on_trial_complete(str(number), {"accuracy": drawn["epsilon_high"]})


def test_population_based_training_keeps_both_bounds_in_their_spaces() -> None:
    space = JointSpace(**BOUNDS, lr=tune.loguniform(1e-6, 1e-5))
    config = dict(_drawn(space)[0])
    random.seed(0)
    np.random.seed(0)
    seen = set()
    for _ in range(60):
        config, _changes = _explore(
            config,
            space.hyperparam_mutations(),
            resample_probability=0.25,
            perturbation_factors=(1.5, 0.5),
            custom_explore_fn=space.explore,
        )
        assert 0.1 <= config["epsilon_low"] <= config["epsilon_high"] <= 0.4
        assert config["epsilon_low"] <= 0.3
        assert 1e-6 <= config["lr"] <= 1e-5
        seen.add((config["epsilon_low"], config["epsilon_high"]))
    assert len(seen) > 10


@pytest.mark.parametrize(
    ("spaces", "told"),
    [
        ({"epsilon_hig": tune.uniform(0.2, 0.4)}, "did you mean 'epsilon_high'?"),
        ({"epsilon_high": tune.quniform(0.2, 0.4, 0.05)}, "tune.uniform"),
        ({"epsilon_high": tune.randint(1, 4)}, "tune.choice"),
        ({"epsilon_high": "0.3"}, "epsilon_high='0.3' must be tune.grid_search"),
        (
            {"epsilon_low": tune.uniform(0.1, 0.5), "epsilon_high": tune.uniform(0.1, 0.4)},
            "epsilon_high must not be under epsilon_low, so move one of the two spaces",
        ),
    ],
)
def test_what_is_no_joint_space_is_refused_in_one_line(spaces: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        JointSpace(**spaces)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_optuna_is_not_given_a_grid() -> None:
    space = JointSpace(epsilon_low=0.1, epsilon_high=tune.grid_search([0.2, 0.4]))
    with pytest.raises(SettingsError, match=r"write epsilon_high=tune\.choice\(\[0\.2, 0\.4\]\)$"):
        space.for_optuna()
