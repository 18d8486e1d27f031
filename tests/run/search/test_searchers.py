from __future__ import annotations

from types import SimpleNamespace

from rllib_dapo.run.search.clip_bounds import HIGH, LOW
from rllib_dapo.run.search.searchers import OptunaSpace


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
