"""Claims of memory, time and variance, on made-up figures."""

from __future__ import annotations

import pytest
import torch
from claims import noise, saved


def test_noise_of_gradients_by_hand() -> None:
    """Two gradients, (3, 0) and (1, 0): their mean is 2, their variance 2."""
    found = noise(mean_square=5.0, mean=torch.tensor([2.0, 0.0]), count=2)
    assert found["variance"] == pytest.approx(2.0)
    assert found["signal"] == pytest.approx(3.0)
    assert found["noise_to_signal"] == pytest.approx(2 / 3)


def test_what_is_saved_is_a_share_of_ppos() -> None:
    rows = [
        {"side": "ppo", "model": "tiny", "peak_mib": 100.0, "seconds": 2.0},
        {"side": "ppo_two_models", "model": "tiny", "peak_mib": 200.0, "seconds": 4.0},
        {"side": "grpo", "model": "tiny", "peak_mib": 100.0, "seconds": 1.0},
    ]
    found = {(r["what"], r["against"]): (r["saved"], r["holds"]) for r in saved(rows)}
    assert found == {
        ("memory", "ppo"): (0.0, False),
        ("memory", "ppo_two_models"): (0.5, True),
        ("time", "ppo"): (0.5, True),
        ("time", "ppo_two_models"): (0.75, True),
    }
