"""Learning to use a tool: the presets, as the command line runs them, until it calls and copies.

In one of them a call is a text of the environment's own, in the other one it is JSON in the format
of chat models, which vLLM's parser reads.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rllib_dapo.run.run_settings import read_settings

ROOT = Path(__file__).parents[2]


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("preset", ["tiny_calculator", "tiny_tools"])
def test_a_tiny_model_learns_to_call_a_calculator(preset: str, cluster: None) -> None:
    settings = read_settings(ROOT / "tune_configs" / f"{preset}.yaml", [])
    algo = settings.config.copy(copy_frozen=False).build_algo()
    try:
        first, *_, last = [algo.train() for _ in range(20)]
    finally:
        algo.stop()
    before = first["evaluation_at_start"]["env_runners"]
    after = last["evaluation"]["env_runners"]
    assert before["avg@8"] < 0.3
    assert after["avg@8"] > 0.8
    assert before["episode_len_mean"] < 1.6 < after["episode_len_mean"]
