"""The guard before the first update: engine and Learner are compared, and a gap is explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.models import load_causal_lm

Make = Callable[..., DAPOConfig]


@contextmanager
def running(config: DAPOConfig) -> Iterator[DAPO]:
    algo = config.build_algo()
    try:
        yield algo
    finally:
        algo.stop()


def with_other_weights(algo: DAPO, model: Path) -> None:
    """An update that went astray."""
    weights = load_causal_lm(model, dtype="float32").state_dict().items()
    algo.env_runner.module[DEFAULT_MODULE_ID].engine.load_weights(weights)


def test_raw_log_probabilities_stop_the_run_and_are_named(
    cluster: None, small_config: Make
) -> None:
    config = small_config(engine="vllm").dynamic_sampling(enabled=False)
    config.rollout(temperature=0.4, engine_kwargs={"logprobs_mode": "raw_logprobs"})
    with pytest.raises(RuntimeError, match="raw log-probabilities") as caught:
        config.build_algo()
    assert "start_guard.limit=5e-05" in str(caught.value)
    assert "\n" not in str(caught.value)
    # Nobody holds the engine any more: it is closed, and the next one can start.
    assert not torch.distributed.is_initialized()


def test_other_weights_stop_the_run_and_are_named(
    cluster: None, small_config: Make, other_raw_model: Path
) -> None:
    config = small_config(engine="transformers").dynamic_sampling(enabled=False)
    config.start_guard(limit=0.01)
    with running(config) as algo:
        with_other_weights(algo, other_raw_model)
        with pytest.raises(RuntimeError, match="weights: the engine's are not the Learner's"):
            algo.train()


@pytest.mark.parametrize(
    "engine", ["transformers", pytest.param("vllm", marks=pytest.mark.exhaustive)]
)
def test_top_p_top_k_min_p_and_stop_strings_train_without_a_gap(
    cluster: None, small_config: Make, engine: str
) -> None:
    config = small_config(engine=engine).dynamic_sampling(enabled=False)
    config.rollout(
        top_p=0.9, sampling={"top_k": 8, "min_p": 0.001, "stop": ["1"], "include_stop": False}
    )
    config.start_guard(every_updates=1)
    config.kl(coefficient=0.01)
    with running(config) as algo:
        results = [algo.train() for _ in range(3)]
    for result in results:
        learner = result["learners"][DEFAULT_MODULE_ID]
        assert learner["sampler_logprob_gap_mean"] < 5e-5
        assert learner["gradient_norm"] > 0


def test_told_to_correct_it_trains_with_truncated_importance_sampling(
    cluster: None, small_config: Make, other_raw_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = small_config(engine="transformers").dynamic_sampling(enabled=False)
    config.start_guard(limit=0.01, action="correct")
    with running(config) as algo:
        with_other_weights(algo, other_raw_model)
        first = algo.train()["learners"][DEFAULT_MODULE_ID]
        second = algo.train()["learners"][DEFAULT_MODULE_ID]
    assert "truncated importance sampling is on from here" in caplog.text
    assert 0 < first["importance_capped_fraction"] < 1
    # After an update the engine has the right weights again.
    assert second["importance_capped_fraction"] == 0
    assert second["sampler_logprob_gap_max"] < 1e-4


def test_a_restored_run_goes_on_correcting(
    cluster: None, small_config: Make, other_raw_model: Path, tmp_path: Path
) -> None:
    config = small_config(engine="transformers").dynamic_sampling(enabled=False)
    config.start_guard(limit=0.01, action="correct")
    with running(config) as algo:
        with_other_weights(algo, other_raw_model)
        algo.train()
        algo.save_to_path(tmp_path)

    with running(config.copy(copy_frozen=False)) as algo:
        algo.restore_from_path(tmp_path)
        learner = algo.train()["learners"][DEFAULT_MODULE_ID]
    assert "importance_capped_fraction" in learner


def test_a_guard_that_has_looked_does_not_look_again_in_the_restored_run(
    cluster: None, small_config: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = small_config(engine="transformers").dynamic_sampling(enabled=False)
    config.start_guard(limit=0.01)
    with running(config) as algo:
        algo.train()
        algo.train()
        algo.save_to_path(tmp_path)

    with running(config.copy(copy_frozen=False)) as algo:
        algo.restore_from_path(tmp_path)
        colder = replace(algo.env_runner._sampling(evaluation=False), temperature=0.7)
        monkeypatch.setattr(algo.env_runner, "_sampling", lambda *, evaluation: colder)
        assert algo.train()["learners"][DEFAULT_MODULE_ID]["sampler_logprob_gap_mean"] > 0.01


def test_a_gap_that_comes_later_ends_the_run_when_the_guard_looks_again(
    cluster: None, small_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(engine="transformers").dynamic_sampling(enabled=False)
    config.start_guard(limit=0.01, every_updates=2)
    with running(config) as algo:
        algo.train()
        algo.train()  # the guard has looked before both
        colder = replace(algo.env_runner._sampling(evaluation=False), temperature=0.7)
        monkeypatch.setattr(algo.env_runner, "_sampling", lambda *, evaluation: colder)
        algo.train()
        with pytest.raises(RuntimeError, match=r"differ by .* start_guard\.limit=0\.01"):
            algo.train()


def test_gradients_that_stay_infinite_end_the_run(cluster: None, small_config: Make) -> None:
    config = small_config(engine="transformers").dynamic_sampling(enabled=False)
    config.training(max_skipped_updates=2)
    with running(config) as algo:
        algo.learner_group.foreach_learner(
            lambda learner: learner.policy_module.lm.get_output_embeddings().weight.register_hook(
                lambda gradient: gradient * float("inf")
            )
        )
        algo.train()  # two optimizer steps
        with pytest.raises(RuntimeError, match=r"max_skipped_updates=2; lower training\.lr"):
            algo.train()


def test_a_run_without_a_gap_starts_without_a_word(
    cluster: None, small_config: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with running(small_config(engine="transformers").dynamic_sampling(enabled=False)) as algo:
        learner = algo.train()["learners"][DEFAULT_MODULE_ID]
    assert "nats per token" not in caplog.text
    assert "importance_capped_fraction" not in learner


def test_one_update_per_rollout_is_warned_of(
    cluster: None, small_config: Make, caplog: pytest.LogCaptureFixture
) -> None:
    config = small_config(engine="transformers").training(minibatch_size=32)
    with running(config):
        assert "epsilon" in caplog.text
