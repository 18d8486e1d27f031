"""Ray's dashboard can be left out, by a value that is understood or refused."""

from __future__ import annotations

import pytest
import ray

from rllib_dapo.findings import SettingsError
from rllib_dapo.run.quiet_ray import join_ray


def test_a_value_that_is_neither_0_nor_1_is_refused_before_ray_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RLLIB_DAPO_DASHBOARD", "off")
    was_running = ray.is_initialized()
    with pytest.raises(SettingsError, match=r"^RLLIB_DAPO_DASHBOARD='off': must be 0 .* or 1$"):
        join_ray()
    assert ray.is_initialized() == was_running
