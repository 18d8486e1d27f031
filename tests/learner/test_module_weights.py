"""How a module's weights leave and enter it: states, engines, and a folder on disk."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.module import CausalLMModule
from rllib_dapo.learner.weight_source import LearnerWeights
from rllib_dapo.models import load_tokenizer
from rllib_dapo.rollout.engine import Sampling
from rllib_dapo.weight_transfer.pieces import WeightPieces

LearnerConfig = Callable[..., DAPOConfig]
BuildModule = Callable[..., CausalLMModule]


# To engines and to other modules


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_learners_weights_arrive_in_an_engine(
    learner_config: LearnerConfig,
    build_module: BuildModule,
    other_raw_model: Path,
    dtype: str,
) -> None:
    learner_module = build_module(learner_config(other_raw_model).language_model(dtype=dtype))
    held = learner_module.lm.state_dict().items()
    source = LearnerWeights(partial(iter, held), dtype=getattr(torch, dtype), converted=False)
    sent = [
        [(name, tensor.clone()) for name, tensor in bucket.views(torch.from_numpy(stored))]
        for bucket, stored in WeightPieces(source, max_bytes=50_000)
    ]
    assert len(sent) > 3
    tensors = [named for bucket in sent for named in bucket]
    assert {tensor.dtype for _, tensor in tensors} == {getattr(torch, dtype)}
    engine_module = build_module(learner_config().language_model(dtype=dtype), inference_only=True)
    target = build_module(
        learner_config(other_raw_model).language_model(dtype=dtype), inference_only=True
    )

    def sample(module: CausalLMModule) -> list[Any]:
        (group,) = module.engine.generate(
            [[1, 22, 16, 23, 34]], sampling=Sampling(num_responses=8, max_tokens=4), seeds=[1]
        )
        return [(c.token_ids.tolist(), c.logprobs.tolist()) for c in group]

    assert sample(engine_module) != sample(target)
    engine_module.engine.load_weights(tensors)
    assert sample(engine_module) == sample(target)


def test_what_rllib_sends_to_env_runners_is_empty_and_leaves_an_engine_alone(
    learner_config: LearnerConfig, build_module: BuildModule
) -> None:
    """The driver would hold a whole state, and one Learner may not have one."""
    learner_module, engine_module = (
        build_module(learner_config(), inference_only=flag) for flag in (False, True)
    )
    assert learner_module.get_state(inference_only=True) == engine_module.get_state() == {}
    engine_module.set_state(learner_module.get_state())
    assert learner_module.get_state().keys() == learner_module.lm.state_dict().keys() - {
        "lm_head.weight"  # which is tied
    }


def test_a_module_whose_weights_are_elsewhere_says_so_and_leaves_them(
    learner_config: LearnerConfig, build_module: BuildModule, tmp_path: Path
) -> None:
    module = build_module(learner_config())
    module.is_sharded = True
    with pytest.raises(
        RuntimeError, match="one Learner alone does not hold the weights: save a checkpoint"
    ):
        module.get_state()
    module.save_to_path(tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    module.restore_from_path(tmp_path)


def test_a_state_is_a_copy(learner_config: LearnerConfig, build_module: BuildModule) -> None:
    module = build_module(learner_config())
    state = module.get_state()
    before = {name: array.copy() for name, array in state.items()}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    assert all(np.array_equal(array, before[name]) for name, array in state.items())
    module.set_state(before)
    assert all(np.array_equal(array, before[name]) for name, array in module.get_state().items())


def test_weights_of_another_model_are_refused_in_one_line(
    learner_config: LearnerConfig, build_module: BuildModule
) -> None:
    module = build_module(learner_config())
    state = module.get_state()
    before = module.get_state()
    state["model.layers.7.mlp.up_proj.weight"] = state.pop("model.layers.1.mlp.up_proj.weight")
    with pytest.raises(ValueError, match="these weights belong to another model") as caught:
        module.set_state(state)
    message = str(caught.value)
    assert "model.layers.1.mlp.up_proj.weight" in message
    assert "model.layers.7.mlp.up_proj.weight" in message
    assert "\n" not in message
    assert all(np.array_equal(array, before[name]) for name, array in module.get_state().items())


# On disk


def pickled_arrays(value: Any) -> Iterator[Any]:
    """Tensors and arrays anywhere in what a pickle holds."""
    if isinstance(value, torch.Tensor | np.ndarray):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from pickled_arrays(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from pickled_arrays(item)
    elif hasattr(value, "__dict__"):
        yield from pickled_arrays(vars(value))


@pytest.mark.parametrize(
    "gathered", [False, True], ids=["own weights", "weights that RLlib gathered"]
)
def test_a_saved_module_is_a_hugging_face_folder(
    learner_config: LearnerConfig,
    build_module: BuildModule,
    raw_model: Path,
    other_raw_model: Path,
    tmp_path: Path,
    gathered: bool,
) -> None:
    module, saved = build_module(learner_config()), build_module(learner_config(other_raw_model))
    if gathered:
        module.save_to_path(tmp_path / "saved", state=saved.get_state())
    else:
        saved.save_to_path(tmp_path / "saved")
    loaded = AutoModelForCausalLM.from_pretrained(
        tmp_path / "saved", dtype=torch.float32
    ).state_dict()
    expected = saved.lm.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "saved").get_vocab()
        == load_tokenizer(raw_model).get_vocab()
    )

    pickles = sorted((tmp_path / "saved").glob("*.pkl"))
    assert pickles
    for file in pickles:
        assert not list(pickled_arrays(pickle.loads(file.read_bytes())))
        assert file.stat().st_size < 50_000

    fresh = build_module(learner_config())
    fresh.restore_from_path(tmp_path / "saved")
    assert all(
        np.array_equal(array, saved.get_state()[name]) for name, array in fresh.get_state().items()
    )


def test_restoring_from_a_folder_without_weights_says_so(
    learner_config: LearnerConfig, build_module: BuildModule, tmp_path: Path
) -> None:
    module = build_module(learner_config())
    with pytest.raises(FileNotFoundError, match=r"no \*\.safetensors in"):
        module.restore_from_path(tmp_path)
