from __future__ import annotations

import time

import pytest

from rllib_dapo.metrics.iteration_seconds import IterationClock


def test_a_clock_adds_up_what_each_part_took_and_forgets_nothing() -> None:
    clock = IterationClock()
    for _ in range(2):
        with clock.measure("update"):
            time.sleep(0.02)
    assert clock.seconds["update"] >= 0.04
    assert clock.seconds == {**clock.seconds, "sampling": 0.0, "weight_sync": 0.0}


def test_a_part_that_an_error_ends_is_measured_too() -> None:
    clock = IterationClock()

    def fail() -> None:
        with clock.measure("sampling"):
            time.sleep(0.01)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert clock.seconds["sampling"] >= 0.01
