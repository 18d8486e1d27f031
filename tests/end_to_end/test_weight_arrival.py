"""Weights that did not arrive are noticed before a second batch is trained on.

The faults are those that public systems had. They are planted into real runs, at a learning rate
at which they change hardly a log-probability.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from torch import Tensor

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.learner.learner import DAPOTorchLearner
from rllib_dapo.learner.learner_group import ask_learners

Make = Callable[..., DAPOConfig]
Weights = Iterator[tuple[str, Tensor]]
Fault = Callable[[dict[str, Tensor], Weights], Weights]

PATIENCE_S = 600
EMBEDDING = "model.embed_tokens.weight"  # which the output projection is tied to
NORM = "model.layers.0.input_layernorm.weight"


def pushes_the_start_model(start: dict[str, Tensor], weights: Weights) -> Weights:
    return ((name, start[name]) for name, _ in weights)


def skips(skipped: str) -> Fault:
    def fault(start: dict[str, Tensor], weights: Weights) -> Weights:
        return ((name, start[name] if name == skipped else tensor) for name, tensor in weights)

    return fault


def mixes_up_layers(start: dict[str, Tensor], weights: Weights) -> Weights:
    sent = dict(weights)
    sent["model.layers.0.mlp.down_proj.weight"] = sent["model.layers.1.mlp.down_proj.weight"]
    return iter(sent.items())


FAULTS: dict[str, Fault] = {
    "start model": pushes_the_start_model,
    "skips a projection": skips("model.layers.1.self_attn.v_proj.weight"),
    "skips a norm": skips(NORM),
    "tied weight's old copy": skips(EMBEDDING),
    "another layer's tensor": mixes_up_layers,
}

# What the message says of them.
NAMED = {
    "skips a projection": "in 1 of 20 tensors that were compared bit for bit "
    "(model.layers.1.self_attn.v_proj.weight)",
    "skips a norm": f"in 1 of 20 tensors that were compared bit for bit ({NORM})",
    "tied weight's old copy": f"in 1 of 20 tensors that were compared bit for bit ({EMBEDDING})",
    "another layer's tensor": "(model.layers.0.mlp.down_proj.weight)",
}


def changing(make: Make, *, lr: float = 1e-6, **layout: Any) -> DAPOConfig:
    config = make(**layout).dynamic_sampling(enabled=False)
    return config.training(lr=lr, warmup_steps=0)


@pytest.fixture(
    scope="module",
    params=[
        ("transformers", "float32"),
        pytest.param(("transformers", "bfloat16"), marks=pytest.mark.exhaustive),
        pytest.param(("vllm", "float32"), marks=pytest.mark.exhaustive),
        pytest.param(("vllm", "bfloat16"), marks=pytest.mark.slow),
    ],
    ids="-".join,
)
def run(request: pytest.FixtureRequest, cluster: None, small_config: Make) -> Iterator[DAPO]:
    """One run for all faults, each of which is mended after it."""
    engine, dtype = request.param
    # In bfloat16 most updates of 1e-6 round away, and what is not changed cannot be missed.
    config = changing(small_config, engine=engine, dtype=dtype)
    algo = config.build_algo()
    yield algo
    algo.stop()


def version(algo: DAPO) -> int:
    return ask_learners(algo.learner_group, lambda learner: learner.weights_version)[0]


def copies(algo: DAPO) -> dict[str, Tensor]:
    (weights,) = ask_learners(
        algo.learner_group,
        lambda learner: {name: tensor.clone() for name, tensor in learner.engine_weights()},
    )
    return weights


@pytest.mark.parametrize("planted", FAULTS)
def test_a_transfer_that_sends_something_else_ends_the_run(
    run: DAPO, planted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run._sync_weights()  # the last fault is mended
    start, before = copies(run), version(run)
    send = DAPOTorchLearner.engine_weights
    with monkeypatch.context() as patched:
        patched.setattr(
            DAPOTorchLearner,
            "engine_weights",
            lambda self, **options: FAULTS[planted](start, send(self, **options)),
        )
        try:
            run.train()
            message = ""
        except RuntimeError as error:
            message = str(error)

    if not message and planted == "skips a norm":
        # Near 1, hardly an update of 1e-6 is left in bfloat16, so nothing may have been skipped.
        assert torch.equal(*(rounded(weights[NORM], run) for weights in (start, copies(run))))
        return
    assert "weights: the engine's are not the Learner's" in message
    assert version(run) == before + 1  # one batch, and no second one
    assert "Go on from the last checkpoint" in message
    assert "\n" not in message
    assert NAMED.get(planted, "tensors that were compared bit for bit") in message


def rounded(weight: Tensor, algo: DAPO) -> Tensor:
    return weight.to(getattr(torch, algo.config.model_dtype))


def test_an_engine_that_is_changed_behind_the_drivers_back_is_noticed_before_the_update(
    run: DAPO,
) -> None:
    start = copies(run)
    run._sync_weights()
    run.train()
    before = version(run)

    run.env_runner.module[DEFAULT_MODULE_ID].engine.load_weights(iter(start.items()))
    with pytest.raises(RuntimeError, match="the engine was changed or restarted meanwhile"):
        run.train()
    assert version(run) == before  # nothing was trained on what it has sampled


@pytest.mark.slow
def test_an_engine_restarted_between_two_updates_is_given_its_weights_again(
    cluster: None, small_config: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Its actor is killed and made anew with the start model, and no call of the driver fails."""
    config = changing(small_config, engine="transformers", num_env_runners=1, lr=1e-3)
    config.fault_tolerance(restart_failed_env_runners=True)
    algo = config.build_algo()
    try:
        algo.train()
        (actor,) = algo.env_runner_group._worker_manager.actors().values()
        old = ray.get(actor.apply.remote(lambda runner: runner.engine_facts["pid"]))
        ray.kill(actor, no_restart=False)
        wait_for_another(actor, than=old)
        # It says that it has what the driver believes it has.
        ray.get(actor.apply.remote(lambda runner: setattr(runner, "_weights_version", 1)))

        with caplog.at_level(logging.WARNING):
            learner = algo.train()["learners"][DEFAULT_MODULE_ID]
    finally:
        algo.stop()
    assert "the engine of EnvRunner 1 was restarted after it had been given weights" in caplog.text
    assert learner["sampler_logprob_gap_max"] < 1e-4


def wait_for_another(actor: Any, *, than: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            ask = actor.apply.remote(lambda runner: runner.engine_facts["pid"])
            if ray.get(ask, timeout=PATIENCE_S) != than:
                return
        except ray.exceptions.RayActorError:
            time.sleep(0.2)
    pytest.fail("the actor was not restarted")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_undisturbed_iterations_raise_nothing(
    cluster: None, small_config: Make, dtype: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = changing(small_config, engine="transformers", dtype=dtype, lr=1e-3)
    config.start_guard(every_updates=1)
    algo = config.build_algo()
    try:
        for _ in range(3):
            algo.train()
    finally:
        algo.stop()
    assert "weights" not in caplog.text


def test_the_guard_looks_after_the_first_update_that_changed_weights(
    cluster: None, small_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step of a warm-up may change none; which one does is found out."""
    config = changing(small_config, engine="transformers").start_guard(every_updates=3)
    algo = config.build_algo()
    looked: list[int] = []
    check = algo._start_guard.check
    monkeypatch.setattr(
        algo._start_guard,
        "check",
        lambda *args, version: (looked.append(version), check(*args, version=version)),
    )
    try:
        optimizer = ask_learners(algo.learner_group, lambda learner: learner.step_optimizer)[0]
        with monkeypatch.context() as patched:
            patched.setattr(optimizer, "step", lambda: None)
            algo.train()
            algo.train()
        for _ in range(6):
            algo.train()
    finally:
        algo.stop()
    # At the start; after the third update, which was the first to change anything; three later.
    assert looked == [0, 3, 6]
    assert torch.is_tensor(next(iter(optimizer.state.values()))["step"])


@pytest.mark.slow
def test_shards_of_two_learners_add_up_to_what_an_engine_holds(
    cluster: None, small_config: Make
) -> None:
    """Under ZeRO-3 no Learner holds a whole tensor, and nothing is gathered for checksums."""
    config = changing(small_config, engine="transformers", num_learners=2)
    algo = config.deepspeed({"zero_optimization": {"stage": 3}}).build_algo()
    try:
        algo.train()  # all of its weights are compared
        engines_weights(algo)[NORM].data[0] += 1e-6
        with pytest.raises(RuntimeError, match=rf"in 1 of 20 tensors .*\({NORM}\)"):
            algo.train()
    finally:
        algo.stop()


def engines_weights(algo: DAPO) -> dict[str, torch.nn.Parameter]:
    """The weights of the transformers engine in this process."""
    return dict(algo.env_runner.module[DEFAULT_MODULE_ID].engine._model.named_parameters())
