from __future__ import annotations

import numpy as np
import pytest

from rllib_dapo.reporting.setting_importance import setting_importance


def test_the_share_is_the_variance_between_the_values_of_a_setting() -> None:
    # Means 1 and 3 around 2; in each group one below and one above by 0.5.
    settings = {"a": [0, 0, 1, 1], "b": [0, 1, 0, 1]}
    rows = setting_importance(settings, [0.5, 1.5, 2.5, 3.5])
    assert [row["setting"] for row in rows] == ["a", "b"]
    assert rows[0]["share"] == pytest.approx(4 / 5)
    assert rows[1]["share"] == pytest.approx(1 / 5)
    assert rows[0] | {"setting": "", "share": 0} == {
        "setting": "",
        "share": 0,
        "by_chance": 0.3333,
        "groups": 2,
        "trials": 4,
        "ranges": False,
    }


def test_many_numbers_are_put_into_ranges() -> None:
    draw = np.random.default_rng(0)
    lr = draw.random(24)
    (row,) = setting_importance({"lr": lr.tolist()}, (lr + 0.01 * draw.random(24)).tolist())
    assert (row["groups"], row["ranges"]) == (4, True)
    assert row["share"] > 0.8


def test_chance_alone_brings_the_share_that_is_said() -> None:
    draw = np.random.default_rng(0)
    settings = {"a": [0, 1, 2] * 4}
    shares = [
        setting_importance(settings, draw.standard_normal(12).tolist())[0]["share"]
        for _ in range(2000)
    ]
    assert np.mean(shares) == pytest.approx(2 / 11, abs=0.01)


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ([1, 2], [0.1, 0.2]),
        ([1, 1, 2, 2], [0.5, 0.5, 0.5, 0.5]),
        ([1, 2, 2], [None, 0.1, 0.2]),
        (["a", "b", "c"], [0.1, 0.2, 0.3]),
    ],
    ids=["two trials", "no differences", "one value left", "a value each"],
)
def test_nothing_is_said_where_nothing_can_be_told(values: list, outcome: list) -> None:
    assert setting_importance({"a": values}, outcome) == []
