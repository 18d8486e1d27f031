"""Two Learners under ZeRO-3 are killed, and the run still goes on.

One is killed after an update, one in the middle of a save.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.checkpoint.export import export_checkpoint
from rllib_dapo.checkpoint.manifest import MANIFEST
from rllib_dapo.learner.collectives import rank
from rllib_dapo.learner.learner import DAPOTorchLearner
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.learner.rank_checkpoint import RANKS
from rllib_dapo.rollout.engine import Sampling
from rllib_dapo.rollout.make_engine import make_engine

# What is heard of a process that is gone: from Ray, or from gloo on the other Learner.
DEATH = r"(?i)died|closed|connection"
NUMBERS = ("policy_loss", "gradient_norm", "entropy", "mean_token_probability", "ratio_max")


@pytest.fixture(scope="module")
def sharded_config(small_config: Callable[..., DAPOConfig]) -> DAPOConfig:
    return (
        small_config(engine="transformers", num_learners=2)
        .dynamic_sampling(enabled=False)
        .training(lr_schedule="linear", lr_decay_updates=20)
        .deepspeed({"zero_optimization": {"stage": 3}})
    )


def build(config: DAPOConfig) -> DAPO:
    return config.copy(copy_frozen=False).build_algo()


def train_on(algo: DAPO, iterations: int = 2) -> list[dict[str, float]]:
    """What each iteration showed, of the rollout and of the update."""
    numbers = []
    for _ in range(iterations):
        result = algo.train()
        learner = result["learners"][DEFAULT_MODULE_ID]
        rollout = {
            name: result["env_runners"][name]
            for name in ("episode_return_mean", "response_length_mean")
        }
        numbers.append(
            rollout
            | {name: learner[name] for name in (*NUMBERS, "default_optimizer_learning_rate")}
        )
    return numbers


def die_while_saving(learner: DAPOTorchLearner) -> None:
    """Makes the second Learner's process end when its shard is written, before the save is over."""
    if rank() == 1:
        learner.fingerprint = lambda: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]


@pytest.mark.slow
def test_killed_learners_go_on_from_the_last_good_checkpoint(
    cluster: None, sharded_config: DAPOConfig, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    undisturbed = build(sharded_config)
    try:
        undisturbed.train()
        undisturbed.train()
        undisturbed.save_to_path(good)
        expected = train_on(undisturbed)
        # Killed after an update.
        second = ask_learners(undisturbed.learner_group, lambda _: os.getpid())[1]
        os.kill(second, signal.SIGKILL)
        with pytest.raises(Exception, match=DEATH):
            undisturbed.train()
    finally:
        undisturbed.stop()

    restored = build(sharded_config)
    try:
        restored.restore_from_path(good)
        assert_same(train_on(restored), expected)
        # Killed in the middle of a save.
        ask_learners(restored.learner_group, die_while_saving)
        with pytest.raises(Exception, match=DEATH):
            restored.save_to_path(bad)
        assert (bad / RANKS).is_dir()
        assert not (bad / MANIFEST).exists()
    finally:
        restored.stop()

    again = build(sharded_config)
    try:
        with pytest.raises(ValueError, match="is not a whole checkpoint"):
            again.restore_from_path(bad)
        again.restore_from_path(good)
        assert_same(train_on(again), expected)
    finally:
        again.stop()

    assert_exported_model_samples(good, tmp_path / "model")
    assert_refused_by_one_learner(sharded_config, good)


def assert_same(numbers: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for got, wanted in zip(numbers, expected, strict=True):
        assert got == pytest.approx(wanted, rel=1e-5, abs=1e-7)


def assert_exported_model_samples(checkpoint: Path, folder: Path) -> None:
    """A model trained under ZeRO-3 is an ordinary one for vLLM."""
    export_checkpoint(checkpoint, folder)
    engine = make_engine(
        "vllm",
        model=str(folder),
        dtype="float32",
        trust_remote_code=False,
        max_model_len=32,
        max_concurrent_responses=8,
        cpu_kv_cache_gib=0.25,
        seed=0,
        engine_kwargs={},
    )
    try:
        sampling = Sampling(num_responses=4, max_tokens=6, temperature=1.0, top_p=1.0)
        (responses,) = engine.generate([[3, 4, 5]], sampling=sampling, seeds=[0])
        assert len(responses) == 4
        assert all(np.isfinite(response.logprobs).all() for response in responses)
    finally:
        engine.close()


def assert_refused_by_one_learner(config: DAPOConfig, checkpoint: Path) -> None:
    alone = build(config.copy(copy_frozen=False).learners(num_learners=0))
    try:
        with pytest.raises(
            ValueError,
            match="was written by 2 Learners with sharding 'ZeRO 3', but this run has 1 Learner",
        ):
            alone.restore_from_path(checkpoint)
    finally:
        alone.stop()


@pytest.mark.slow
@pytest.mark.parametrize("num_learners", [1, 2])
def test_a_learner_that_hangs_in_an_update_ends_the_trial(
    small_config: Callable[..., DAPOConfig], cluster: None, num_learners: int
) -> None:
    # Defined in here, so that it is pickled by value: workers cannot import a test.
    class HangingLearner(DAPOTorchLearner):
        def forward_micro_batch(self, batch: Any) -> dict[str, Any]:
            if self.weights_version == 2 and rank() == 0:  # in the second update
                time.sleep(3600)
            return super().forward_micro_batch(batch)

    config = small_config(engine="transformers", num_learners=num_learners)
    config.training(learner_class=HangingLearner, stall_seconds=5.0)
    config.dynamic_sampling(enabled=False).start_guard(limit=None)
    algo = config.build_algo()
    try:
        algo.train()
        with pytest.raises(Exception, match=DEATH):
            algo.train()
    finally:
        algo.stop()
