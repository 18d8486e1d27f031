"""The critic's warm-up with one Learner or two, under DDP and under every stage of DeepSpeed."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo.learner.collectives import rank
from rllib_dapo.learner.learner import DAPOTorchLearner
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.learner.training_data import GroupTrainingData


def _load_kinds() -> ModuleType:
    """The Learners of `test_learner_kinds.py`, and their data."""
    file = Path(__file__).with_name("test_learner_kinds.py")
    spec = importlib.util.spec_from_file_location("learner_kinds", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


KINDS = _load_kinds()
two_processes = KINDS.two_processes

CRITIC = {"lr": 1e-2, "warmup": 2, "value_clip": None}
OWN_OPTIMIZER = {"optimizer": {"type": "AdamW", "params": {"lr": "auto", "torch_adam": True}}}
OFFLOADED = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}
# Of the value head, relative to its norm. It begins with zeros, and AdamW's first steps are as long
# where the gradient is little more than rounding: in bfloat16, 0.07 was measured after the first
# training step between ZeRO 1 to 3, which agree with each other, and one Learner without DeepSpeed.
HEAD_LIMITS = {"float32": 1e-5, "bfloat16": 0.15}


def make_course(config: Any, spec: Any, folder: Path) -> Callable[..., dict[str, list[Any]]]:
    """A function that runs where a Learner is: so it brings along all that it calls."""

    def make() -> DAPOTorchLearner:
        learner = config.learner_class(config=config, module_spec=spec)
        learner.build()
        return learner

    def whole(learner: DAPOTorchLearner, part: str) -> np.ndarray:
        """Language model or value head, gathered where it is sharded."""
        model = getattr(learner.policy_module, part)
        of_all = getattr(learner, "_whole_weights", lambda m: m.state_dict().items())(model)
        return np.concatenate([x.detach().float().flatten().numpy().copy() for _, x in of_all])

    def course(data: GroupTrainingData) -> dict[str, list[Any]]:
        """Two training steps of the critic alone, a checkpoint between them, and two of both.

        Returns:
            Weights at the start and after each of them; their gradients' norms, and value losses.
        """
        found: dict[str, list[Any]] = {name: [] for name in ("lm", "value_head")}
        found |= {name: [] for name in ("gradient_norm", "value_loss")}

        def note(learner: DAPOTorchLearner) -> None:
            for part in ("lm", "value_head"):
                found[part].append(whole(learner, part))

        def update(learner: DAPOTorchLearner) -> None:
            result = learner.update(training_data=data)[DEFAULT_MODULE_ID]
            for name in ("gradient_norm", "value_loss"):
                found[name].append(float(result[name].peek()))
            note(learner)

        first = make()
        note(first)
        update(first)
        first.save_rank(folder, ray.util.get_node_ip_address())

        # Without the driver's half of a checkpoint, which is RLlib's state and the model's folder.
        second = make()
        if not first.policy_module.is_sharded:
            second.policy_module.set_state(first.policy_module.get_state())
        second._weights_seq_no = first._weights_seq_no
        second.load_rank(folder, ray.util.get_node_ip_address())
        for _ in range(3):
            update(second)
        for learner in (second, first):
            learner.shutdown()
        return found

    return course


@pytest.fixture(scope="module")
def course(
    cluster: None,
    raw_model: Path,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., dict[str, list[Any]]]:
    """The course of a kind of Learner, on its first one."""

    def of(num_learners: int, *, stage: int | None, dtype: str, **sections: Any) -> dict[str, Any]:
        config = KINDS.learner_config(
            raw_model,
            num_learners,
            deepspeed=None if stage is None else {"zero_optimization": {"stage": stage}} | sections,
            dtype=dtype,
            advantage_estimator="gae",
            lr=1e-3,
        ).critic(**CRITIC)
        config.validate()
        run = make_course(config, KINDS.module_spec(config), tmp_path_factory.mktemp("course"))
        data = KINDS.training_data(num_learners=num_learners, minibatches=2)
        if num_learners == 0:
            return run(data)

        shards = [shard for shard, _ in data.shard(num_learners)]
        group = request.getfixturevalue("two_processes")
        one, other = ask_learners(group, lambda _: run(shards[rank()]))
        for weights, others in zip(one["lm"], other["lm"], strict=True):
            assert np.array_equal(weights, others)
        return one

    return of


@pytest.fixture(scope="module")
def plain_course(course: Callable[..., dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    """That of one Learner without DeepSpeed, by type."""
    known: dict[str, dict[str, Any]] = {}

    def of(dtype: str) -> dict[str, Any]:
        if dtype not in known:
            known[dtype] = course(0, stage=None, dtype=dtype)
        return known[dtype]

    return of


@pytest.mark.parametrize(
    ("num_learners", "stage", "dtype", "sections"),
    [
        *(
            pytest.param(*kind, marks=pytest.mark.slow)
            for kind in (
                (0, 0, "float32", {}),
                (0, 2, "float32", OFFLOADED),
                (0, 3, "float32", OWN_OPTIMIZER),
                *((2, stage, "float32", {}) for stage in (None, 2, 3)),
                (2, 3, "bfloat16", {}),
            )
        ),
        *(
            pytest.param(*kind, marks=pytest.mark.exhaustive)
            for kind in (
                *((0, stage, "float32", {}) for stage in (1, 2, 3)),
                (0, 2, "float32", OWN_OPTIMIZER),
                *((2, stage, "float32", {}) for stage in (0, 1)),
                *((2, stage, "bfloat16", {}) for stage in (None, 1, 2)),
            )
        ),
    ],
    ids=str,
)
def test_every_kind_of_learner_trains_the_value_head_alone_and_then_both(
    course: Callable[..., dict[str, Any]],
    plain_course: Callable[[str], dict[str, Any]],
    num_learners: int,
    stage: int | None,
    dtype: str,
    sections: dict[str, Any],
) -> None:
    """No bit of the language model changes, also after a checkpoint in the middle."""
    found = course(num_learners, stage=stage, dtype=dtype, **sections)
    start, after_one, after_two, after_three, _ = found["lm"]
    assert np.array_equal(start, after_one)
    assert np.array_equal(start, after_two)
    assert not np.array_equal(start, after_three)
    heads = found["value_head"]
    # In bfloat16 a small step of some number may round away.
    same = [float(np.mean(one == other)) for one, other in itertools.pairwise(heads)]
    assert max(same) <= (0.1 if dtype == "bfloat16" else 0.0)
    assert found["value_loss"][0] > found["value_loss"][-1]

    expected = plain_course(dtype)
    for part, limits in (("lm", KINDS.LIMITS), ("value_head", HEAD_LIMITS)):
        for weights, others in zip(found[part][1:], expected[part][1:], strict=True):
            assert KINDS.difference(weights, others) < limits[dtype]
    limit = HEAD_LIMITS[dtype]
    assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=limit)


def test_a_deepspeed_checkpoint_with_one_group_of_parameters_is_refused_in_one_line(
    cluster: None, raw_model: Path, tmp_path: Path
) -> None:
    """An earlier version's: policy and value head lie in one run of numbers, cut into shards."""
    config = KINDS.learner_config(
        raw_model,
        0,
        deepspeed={"zero_optimization": {"stage": 1}},
        advantage_estimator="gae",
    )
    config.validate()
    learner = config.learner_class(config=config, module_spec=KINDS.module_spec(config))
    learner.build()
    try:
        here = ray.util.get_node_ip_address()
        learner.save_rank(tmp_path, here)
        learner.load_rank(tmp_path, here)

        (file,) = tmp_path.glob("ranks/*.pt")
        state = torch.load(file, weights_only=True)
        assert state.pop("parameter_groups") == 2
        torch.save(state, file)
        said = r"^[^\n]*with 1 group[^\n]*under ZeRO 1[^\n]*`rllib-dapo export`\)$"
        with pytest.raises(ValueError, match=said):
            learner.load_rank(tmp_path, here)
    finally:
        learner.shutdown()
