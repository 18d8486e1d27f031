"""What population based training makes of a configuration is brought back into its spaces."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_dapo.run.search.clip_bounds import HIGH, LOW
from rllib_dapo.run.search.mutations import Mutations


@settings(max_examples=200)
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
