"""The engine's seeds: a function of run, stream, weights and prompt."""

from __future__ import annotations

from rllib_dapo.rollout.sampling_seed import EVALUATION_STREAM, TRAINING_STREAM, sampling_seed


def test_engine_seeds_differ_by_run_stream_weights_and_prompt() -> None:
    seeds = [
        sampling_seed(run, stream, version, prompt)
        for run in range(3)
        for stream in (TRAINING_STREAM, EVALUATION_STREAM)
        for version in range(3)
        for prompt in range(3)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
