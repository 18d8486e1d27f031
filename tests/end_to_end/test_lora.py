"""Whole runs that train an adapter: learning, checkpoints, exports, and adapters that get lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from transformers import AutoModelForCausalLM

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.checkpoint.export import export_checkpoint
from rllib_dapo.learner.adapter_folder import read_adapter
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.learner.model_folder import MODULE_PATH
from rllib_dapo.rollout.vllm_adapters import VLLMAdapters

Make = Callable[..., DAPOConfig]


def with_adapter(make: Make, **layout: Any) -> DAPOConfig:
    config = make(**layout).dynamic_sampling(enabled=False).kl(coefficient=0.01)
    config.language_model(lora={"rank": 4})
    return config.training(lr=1e-3, warmup_steps=0).start_guard(every_updates=1)


def adapter_of(algo: DAPO) -> dict[str, torch.Tensor]:
    (weights,) = ask_learners(
        algo.learner_group,
        lambda learner: {
            name: tensor.clone()
            for name, tensor in learner.policy_module.adapter.weights(learner.gather)
        },
    )
    return weights


@pytest.mark.parametrize(
    "stage", [None, *(pytest.param(stage, marks=pytest.mark.slow) for stage in (0, 2, 3))]
)
def test_a_run_with_merged_weights_is_saved_restored_and_exported(
    cluster: None, small_config: Make, raw_model: Path, tmp_path: Path, stage: int | None
) -> None:
    """The engine transformers takes no adapters, so it is given whole weights."""
    config = with_adapter(small_config, engine="transformers")
    if stage is not None:
        config.deepspeed({"zero_optimization": {"stage": stage}})
    algo = config.build_algo()
    try:
        for _ in range(2):
            learner = algo.train()["learners"][DEFAULT_MODULE_ID]
            assert learner["sampler_logprob_gap_max"] < 1e-4
        algo.save_to_path(tmp_path / "checkpoint")
        trained = adapter_of(algo)
        held = algo.env_runner.module[DEFAULT_MODULE_ID].engine._model
        ids = torch.arange(8)[None]
        logits = held(ids).logits
    finally:
        algo.stop()

    restored = DAPO.from_checkpoint(tmp_path / "checkpoint")
    try:
        assert all(torch.equal(trained[name], w) for name, w in adapter_of(restored).items())
        restored.train()
    finally:
        restored.stop()

    checkpoint = tmp_path / "checkpoint"
    base = sum(file.stat().st_size for file in raw_model.glob("*.safetensors"))
    files = [file for file in checkpoint.rglob("*") if file.suffix in (".safetensors", ".pt")]
    assert max(file.stat().st_size for file in files) < base / 2  # nowhere the whole model
    adapter = export_checkpoint(checkpoint, tmp_path / "adapter")
    _, weights = read_adapter(adapter)
    assert all(torch.equal(trained[name], tensor) for name, tensor in weights.items())
    whole = export_checkpoint(checkpoint, tmp_path / "whole", merge=True, dtype="float32")
    loaded = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32)
    torch.testing.assert_close(loaded(ids).logits, logits, rtol=0, atol=1e-5)
    assert not (whole / "adapter_config.json").exists()


@pytest.fixture(scope="module")
def run(cluster: None, small_config: Make) -> Iterator[DAPO]:
    """One run with vLLM for all faults, each of which is mended after it."""
    algo = with_adapter(small_config, engine="vllm").build_algo()
    yield algo
    algo.stop()


def never_arrives(load: Any, start: dict[str, torch.Tensor]) -> Any:
    return lambda self, llm, adapter: None


def start_adapter_for_ever(load: Any, start: dict[str, torch.Tensor]) -> Any:
    def send(self: VLLMAdapters, llm: Any, adapter: Any) -> None:
        adapter.weights.update(start)
        load(self, llm, adapter)

    return send


def base_weights_alone(load: Any, start: dict[str, torch.Tensor]) -> Any:
    """A request that nobody tells of its adapter; the workers hold the right one."""

    def send(self: VLLMAdapters, llm: Any, adapter: Any) -> None:
        load(self, llm, adapter)
        self.request = lambda name: None  # type: ignore[method-assign]

    return send


def train_twice(algo: DAPO) -> None:
    for _ in range(2):
        algo.train()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("planted", "told"),
    [
        (never_arrives, "weights: the engine's are not the Learner's"),
        (start_adapter_for_ever, "weights: the engine's are not the Learner's"),
        (base_weights_alone, "probable cause: weights"),
    ],
)
def test_an_adapter_that_is_not_sampled_from_ends_the_run(
    run: DAPO, planted: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run._sync_weights()  # the last fault is mended
    learner = run.train()["learners"][DEFAULT_MODULE_ID]
    assert learner["sampler_logprob_gap_max"] < 1e-4
    adapters = run.env_runner.module[DEFAULT_MODULE_ID].engine._adapters
    start = {name: w.clone() for name, w in adapter_of(run).items()}

    with monkeypatch.context() as patched:
        patched.setattr(VLLMAdapters, "load", planted(VLLMAdapters.load, start))
        with pytest.raises(RuntimeError, match=told) as error:
            train_twice(run)
    assert "\n" not in str(error.value)
    vars(adapters).pop("request", None)
    run._start_guard._has_spoken = False


@pytest.mark.slow
def test_a_checkpoint_has_the_adapter_alone_and_its_base_by_name(
    run: DAPO, raw_model: Path, tmp_path: Path
) -> None:
    run._sync_weights()
    run.save_to_path(tmp_path / "checkpoint")
    config, weights = read_adapter(tmp_path / "checkpoint" / MODULE_PATH)
    assert config["base_model_name_or_path"] == str(raw_model)
    tensors = sum(tensor.nbytes for tensor in weights.values())
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    of_weights = [file for file in files if file.suffix in (".safetensors", ".pt")]
    # AdamW has two moments; the rest is headers of files.
    assert sum(file.stat().st_size for file in of_weights) < 3 * tensors + 50_000
