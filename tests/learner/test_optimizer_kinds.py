"""Each optimizer trains as AdamW does, and goes on from its checkpoint as if nothing had been."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from torch import Tensor

from rllib_dapo import DAPOConfig
from rllib_dapo.envs import TextSpace
from rllib_dapo.learner.learner import DAPOTorchLearner
from rllib_dapo.learner.training_data import GroupTrainingData

NEEDS_BITSANDBYTES = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
NEEDS_DEEPSPEED = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="DeepSpeed is not installed"
)
NEEDS_COMPILER = pytest.mark.skipif(
    not (which("ninja") and which("c++")), reason="DeepSpeed compiles it, with ninja and c++"
)
# How far three steps may end from AdamW's, of the way that these go. Measured: 0.01 in 8 bits.
LIMITS = {"adamw_8bit": 0.05, "deepspeed_cpu_adamw": 1e-3}

Make = Callable[..., DAPOTorchLearner]


@pytest.fixture
def make(learner_config: Callable[..., DAPOConfig]) -> Make:
    """Builds a Learner in this process."""

    def build(name: str, stage: int | None) -> DAPOTorchLearner:
        config = learner_config().training(optimizer=name, lr=1e-3)
        if stage is not None:
            config.deepspeed({"zero_optimization": {"stage": stage}})
        config.validate()
        spec = config.get_multi_rl_module_spec(
            spaces={DEFAULT_MODULE_ID: (TextSpace(100), TextSpace(100))}
        )
        learner = config.learner_class(config=config, module_spec=spec)
        learner.build()
        return learner

    return build


def weights(learner: DAPOTorchLearner) -> Tensor:
    return torch.cat([w.detach().flatten().clone() for _, w in learner.engine_weights()])


def steps(learner: DAPOTorchLearner, data: GroupTrainingData, count: int) -> Tensor:
    for _ in range(count):
        result = learner.update(training_data=data)
        assert result[DEFAULT_MODULE_ID]["gradient_updates"].peek() == 1
    return weights(learner)


def go_on(learner: DAPOTorchLearner, other: DAPOTorchLearner, folder: Path) -> DAPOTorchLearner:
    """Hands a checkpoint of one Learner to another one."""
    here = ray.util.get_node_ip_address()
    (folder / "ranks").mkdir()
    learner.save_rank(folder, here)
    if not other.policy_module.is_sharded:
        other.policy_module.set_state(learner.policy_module.get_state())
    other.load_rank(folder, here)
    return other


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        pytest.param("adamw_8bit", None, marks=NEEDS_BITSANDBYTES),
        *(
            pytest.param("adamw_8bit", s, marks=[NEEDS_BITSANDBYTES, NEEDS_DEEPSPEED])
            for s in (1, 2, 3)
        ),
        # DeepSpeed compiles its optimizer when it is first asked for it.
        *(
            pytest.param("deepspeed_cpu_adamw", s, marks=[mark, NEEDS_DEEPSPEED, NEEDS_COMPILER])
            for s, mark in (
                (1, pytest.mark.exhaustive),
                (2, pytest.mark.slow),
                (3, pytest.mark.exhaustive),
            )
        ),
    ],
)
def test_an_optimizer_trains_as_adamw_and_goes_on_from_a_checkpoint(
    cluster: None,
    make: Make,
    make_data: Callable[..., GroupTrainingData],
    name: str,
    stage: int | None,
    tmp_path: Path,
) -> None:
    data = make_data()
    plain = make("adamw", None)
    start = weights(plain)
    expected = steps(plain, data, 3)

    learner, other = make(name, stage), make(name, stage)
    try:
        found = steps(learner, data, 3)
        assert (found - expected).norm() < LIMITS[name] * (expected - start).norm()

        go_on(learner, other, tmp_path)
        assert torch.equal(weights(other), found)
        assert torch.equal(steps(other, data, 1), steps(learner, data, 1))
    finally:
        other.shutdown()
        learner.shutdown()


@NEEDS_DEEPSPEED
def test_a_group_that_another_library_has_ended_is_no_longer_used(
    make: Make, make_data: Callable[..., GroupTrainingData]
) -> None:
    make("adamw", 1)  # and nobody shuts it down
    torch.distributed.destroy_process_group()  # as vLLM does when an engine is closed

    learner = make("adamw", 1)
    before = weights(learner)
    assert not torch.equal(steps(learner, make_data(), 1), before)
    learner.shutdown()


@NEEDS_BITSANDBYTES
def test_moments_of_8_bit_adamw_take_a_quarter_of_the_memory(
    make: Make, make_data: Callable[..., GroupTrainingData]
) -> None:
    def state_bytes(name: str) -> int:
        learner = make(name, None)
        steps(learner, make_data(), 1)
        state: dict[Any, dict[str, Any]] = learner.step_optimizer.state
        tensors = {
            id(t): t for of in state.values() for t in of.values() if isinstance(t, torch.Tensor)
        }
        return sum(t.nbytes for t in tensors.values())

    assert state_bytes("adamw_8bit") < 0.3 * state_bytes("adamw")
