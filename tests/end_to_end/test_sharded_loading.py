"""Under ZeRO-3 a model is sharded while it is read: all numbers are those of sharding it whole."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner_group import LearnerGroup
from safetensors.torch import load_file

from rllib_dapo.learner.collectives import rank
from rllib_dapo.learner.learner import DAPOTorchLearner
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.learner.model_folder import MODULE_PATH
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
FIGURES = ("total_loss", "gradient_norm")


def make_comparison(config: Any, spec: Any, folder: Path) -> Callable[..., dict[str, Any]]:
    """A function that runs where a Learner is: so it brings along all that it calls."""
    figures = FIGURES

    def make(*, sharded_whole: bool) -> DAPOTorchLearner:
        module = spec.rl_module_specs[DEFAULT_MODULE_ID]
        module.model_config = module.model_config | (
            {"zero3": None} if sharded_whole else {"zero3": config._zero3_settings()}
        )
        learner = config.learner_class(config=config, module_spec=spec)
        learner.build()
        # A module that was loaded whole does not know of what DeepSpeed has done to it.
        learner.policy_module.is_sharded = True
        return learner

    def shards(learner: DAPOTorchLearner) -> dict[str, np.ndarray]:
        """This Learner's part of each weight, without what fills up the last Learner's."""
        found = {}
        for name, p in learner.policy_module.named_parameters():
            own = p.ds_numel - rank() * p.ds_tensor.numel()
            found[name] = p.ds_tensor.detach()[: max(own, 0)].float().numpy().copy()
        return found

    def update(learner: DAPOTorchLearner, data: GroupTrainingData) -> list[float]:
        result = learner.update(training_data=data)[DEFAULT_MODULE_ID]
        kl = [float(result["kl"].peek())] if "kl" in result else []
        return [float(result[name].peek()) for name in figures] + kl

    def compare(data: GroupTrainingData) -> dict[str, Any]:
        """Two updates of both, and the second one again from the checkpoint of the other.

        Returns:
            By way of loading: the shards at the start and in the end, and each update's figures.
        """
        found: dict[str, Any] = {}
        here = ray.util.get_node_ip_address()
        learners = {}
        for way in ("whole", "by weight"):
            learner = learners[way] = make(sharded_whole=way == "whole")
            found[way, "start"] = shards(learner)
            found[way, "first"] = update(learner, data)
            learner.save_rank(folder / way, here)
            found[way, "second"] = update(learner, data)
            found[way, "end"] = shards(learner)

        restored = make(sharded_whole=False)
        restored._weights_seq_no = 1
        restored.load_rank(folder / "whole", here)
        found["restored", "second"] = update(restored, data)
        found["restored", "end"] = shards(restored)
        found["reference"] = [
            (p.ds_tensor.numel(), p.ds_numel)
            for reference in restored.policy_module._reference
            for p in reference.lm.parameters()
        ]
        # The first one may have made the process group.
        for learner in (restored, learners["by weight"], learners["whole"]):
            learner.shutdown()
        return found

    return compare


@pytest.fixture(scope="module")
def compare(
    cluster: None,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., tuple[list[dict[str, Any]], Path]]:
    """Compares both ways of loading a model; what each Learner found, and the folder."""

    def of(
        model: Path, num_learners: int, *, dtype: str, kl: float = 0.0, **training: Any
    ) -> tuple[list[dict[str, Any]], Path]:
        config = KINDS.learner_config(
            model,
            num_learners,
            deepspeed={"zero_optimization": {"stage": 3}},
            dtype=dtype,
            lr=1e-3,
            **training,
        ).kl(coefficient=kl)
        config.validate()
        folder = tmp_path_factory.mktemp("ways")
        for way in ("whole", "by weight"):
            (folder / way / "ranks").mkdir(parents=True)
        run = make_comparison(config, KINDS.module_spec(config), folder)
        data = KINDS.training_data(num_learners=num_learners, minibatches=2)
        if num_learners == 0:
            return [run(data)], folder

        group: LearnerGroup = request.getfixturevalue("two_processes")
        parts = [part for part, _ in data.shard(num_learners)]
        return ask_learners(group, lambda _: run(parts[rank()])), folder

    return of


def check_equal(found: dict[str, Any]) -> None:
    for when in ("start", "end"):
        whole, by_weight = found["whole", when], found["by weight", when]
        assert list(whole) == list(by_weight)
        assert all(np.array_equal(whole[name], by_weight[name]) for name in whole)
    assert found["whole", "first"] == found["by weight", "first"]
    assert found["whole", "second"] == found["by weight", "second"] == found["restored", "second"]
    assert not np.array_equal(
        np.concatenate([*found["whole", "start"].values()]),
        np.concatenate([*found["whole", "end"].values()]),
    )
    restored = found["restored", "end"]
    assert all(np.array_equal(restored[n], t) for n, t in found["by weight", "end"].items())


def written(folder: Path) -> dict[str, torch.Tensor]:
    files = (folder / MODULE_PATH).glob("*.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


@pytest.mark.parametrize(
    ("num_learners", "model", "settings"),
    [
        (0, "mixture", {"kl": 0.1}),
        *(
            pytest.param(2, model, settings, marks=pytest.mark.slow)
            for model, settings in (
                ("raw_model", {"dtype": "bfloat16", "kl": 0.1}),
                ("raw_model", {"advantage_estimator": "gae"}),
            )
        ),
        *(
            pytest.param(2, model, {"kl": 0.1}, marks=pytest.mark.exhaustive)
            for model in ("raw_model", "mixture")
        ),
    ],
    ids=str,
)
def test_losses_weights_and_checkpoints_are_those_of_a_model_that_was_loaded_whole(
    compare: Callable[..., tuple[list[dict[str, Any]], Path]],
    request: pytest.FixtureRequest,
    num_learners: int,
    model: str,
    settings: dict[str, Any],
) -> None:
    """Bit by bit, and a checkpoint that the old way wrote goes on as if nothing had happened."""
    path = request.getfixturevalue(model)
    learners, folder = compare(path, num_learners, **{"dtype": "float32"} | settings)
    for found in learners:
        check_equal(found)
        assert bool(found["reference"]) == ("kl" in settings)
        assert all(own == -(-whole // len(learners)) for own, whole in found["reference"])

    whole, by_weight = written(folder / "whole"), written(folder / "by weight")
    assert whole.keys() == by_weight.keys() >= load_file(path / "model.safetensors").keys()
    assert all(torch.equal(tensor, by_weight[name]) for name, tensor in whole.items())


@pytest.mark.slow
def test_a_learner_that_cannot_write_does_not_leave_the_others_waiting(
    cluster: None, raw_model: Path, tmp_path: Path
) -> None:
    """Gathering is a call of all Learners: one that gave up would hold the others for ever."""
    zero3 = {"zero_optimization": {"stage": 3}}
    (tmp_path / MODULE_PATH.parent).mkdir(parents=True)
    (tmp_path / MODULE_PATH).write_text("a file where a folder should be")
    here = ray.util.get_node_ip_address()
    with KINDS.learners(raw_model, 2, deepspeed=zero3) as group:

        def save(learner: DAPOTorchLearner) -> str:
            try:
                learner.save_rank(tmp_path, here)
            except OSError as error:
                return type(error).__name__
            return "saved"

        assert ask_learners(group, save) == ["FileExistsError", "saved"]
        # And they go on training.
        group.update(training_data=KINDS.training_data(num_learners=2))


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
