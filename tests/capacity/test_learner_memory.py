"""A Learner's memory: bytes a parameter by hand, activations against what torch really keeps."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from transformers import LlamaConfig

from rllib_dapo import DAPOConfig
from rllib_dapo.capacity.activations import head_bytes, layer_bytes_per_token, stack_bytes
from rllib_dapo.capacity.layout import learner_layout, microbatch_rows
from rllib_dapo.capacity.learner_memory import ProcessMemory, learner_memory
from rllib_dapo.capacity.model_shape import ModelShape, shape_of

Make = Callable[..., DAPOConfig]


def _memory(shape: ModelShape, config: DAPOConfig) -> ProcessMemory:
    return learner_memory(shape, config, learner_layout(config), response_tokens=1000)


def _states(memory: ProcessMemory) -> dict[str, float]:
    names = ("weights", "gradients", "optimizer", "reference")
    return {name: memory.device[name] for name in names if name in memory.device}


def _zero(stage: int, **more: Any) -> dict[str, Any]:
    return {"zero_optimization": {"stage": stage, **more}}


def test_sixteen_bytes_a_parameter_without_sharding(small: ModelShape, config: Make) -> None:
    """Float32 weights and gradients, and two moments of Adam: 4 + 4 + 8."""
    n = small.parameters
    states = _states(_memory(small, config()))
    assert states == {"weights": 4 * n, "gradients": 4 * n, "optimizer": 8 * n}


# Bytes a parameter of weights, gradients, optimizer in bfloat16 on W Learners: a bfloat16 weight, a
# float32 gradient, and the float32 master with two moments, each whole or a W-th.
ZERO_STATES = {
    1: lambda w: (2, 4, 12 / w),
    2: lambda w: (2, 4 / w, 12 / w),
    3: lambda w: (2 / w, 4 / w, 12 / w),
}


@pytest.mark.parametrize("learners", [2, 8])
@pytest.mark.parametrize("stage", ZERO_STATES)
def test_zero_cuts_what_its_stage_says(
    stage: int, learners: int, small: ModelShape, config: Make
) -> None:
    memory = _memory(small, config(num_learners=learners, deepspeed_config=_zero(stage)))
    expected = [size * small.parameters for size in ZERO_STATES[stage](learners)]
    assert list(_states(memory).values()) == pytest.approx(expected)


def test_offloading_leaves_the_optimizer_in_main_memory(large: ModelShape, config: Make) -> None:
    plain = config(num_learners=8, deepspeed_config=_zero(3))
    offloaded = config(
        num_learners=8, deepspeed_config=_zero(3, offload_optimizer={"device": "cpu"})
    )
    before, after = _memory(large, plain), _memory(large, offloaded)
    assert "optimizer" not in after.device
    assert after.host["optimizer"] == before.device["optimizer"]
    assert after.total < before.total


def test_weights_may_be_offloaded_too(large: ModelShape, config: Make) -> None:
    device = {"device": "cpu"}
    made = config(
        num_learners=8,
        deepspeed_config=_zero(3, offload_optimizer=device, offload_param=device),
    )
    memory = _memory(large, made)
    assert "weights" not in memory.device
    assert memory.host["weights"] == 2 * large.parameters / 8


def test_a_reference_is_one_more_set_of_weights_and_zero_3_cuts_it(
    small: ModelShape, config: Make
) -> None:
    whole = _memory(small, config(kl_coefficient=0.1))
    cut = _memory(small, config(kl_coefficient=0.1, num_learners=4, deepspeed_config=_zero(3)))
    assert whole.device["reference"] == 4 * small.parameters
    assert cut.device["reference"] == 2 * small.parameters / 4


def test_a_critic_is_a_head_and_not_a_model(small: ModelShape, config: Make) -> None:
    without, with_critic = (
        sum(_states(_memory(small, config(advantage_estimator=kind))).values())
        for kind in ("group", "gae")
    )
    assert with_critic - without == 16 * (small.hidden + 1)


def test_frozen_layers_have_neither_gradients_nor_moments(small: ModelShape, config: Make) -> None:
    states = _states(_memory(small, config(freeze_fraction=0.5)))
    trained = small.trainable_parameters(0.5)
    assert states["weights"] == 4 * small.parameters
    assert states["gradients"] == 4 * trained
    assert states["optimizer"] == 8 * trained


def test_loading_takes_a_whole_model_or_its_part(large: ModelShape, config: Make) -> None:
    whole = _memory(large, config(num_learners=8, deepspeed_config=_zero(2)))
    part = _memory(large, config(num_learners=8, deepspeed_config=_zero(3)))
    assert whole.loading == 4 * large.parameters
    assert large.parameters / 8 * 4 < part.loading < 0.2 * whole.loading


LESS = {
    "checkpointing": {"gradient_checkpointing": True},
    "shorter micro-batches": {"max_tokens_per_microbatch": 4096},
    "shorter responses": {"max_response_tokens": 1024, "max_tokens_per_microbatch": 2048},
    "fewer logits": {"logprob_chunk_tokens": 256},
    "frozen layers": {"freeze_fraction": 0.5},
}


@pytest.mark.parametrize("case", LESS)
@pytest.mark.parametrize("stage", [None, 3])
def test_what_should_save_memory_saves_memory(
    case: str, stage: int | None, small: ModelShape, config: Make
) -> None:
    base = {
        "max_tokens_per_microbatch": 16_384,
        "deepspeed_config": stage and _zero(stage),
        "num_learners": 2,
    }
    before = _memory(small, config(**base))
    after = _memory(small, config(**{**base, **LESS[case]}))
    assert after.total < before.total


@pytest.mark.parametrize("learners", [2, 4, 16])
def test_more_learners_need_less_each(learners: int, large: ModelShape, config: Make) -> None:
    one, more = (
        _memory(large, config(num_learners=count, deepspeed_config=_zero(3)))
        for count in (learners, 2 * learners)
    )
    assert more.total < one.total


def test_the_largest_micro_batch_follows_the_plan_of_rows(config: Make) -> None:
    assert microbatch_rows(config(max_tokens_per_microbatch=16_384)) == (4, 4096)
    # A row that is longer goes alone, and a mini-batch may be smaller than a micro-batch.
    assert microbatch_rows(config(max_tokens_per_microbatch=100)) == (1, 4096)
    assert microbatch_rows(config(max_tokens_per_microbatch=10**6, minibatch_size=3)) == (3, 4096)
    # A shared row holds no more than the responses to one prompt.
    shared = config(max_shared_row_tokens=10**6, group_size=4, max_tokens_per_microbatch=30_000)
    assert microbatch_rows(shared) == (2, 1024 + 4 * 3072)


# What torch keeps


# In a process of its own: what other tests have loaded may change what torch keeps.
KEPT = """
import json
import torch
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = json.loads(SIZES_AS_JSON)


def kept_bytes(layers, precision, checkpointing):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, num_hidden_layers=layers)).train()
    if precision == "bfloat16":
        model = model.to(torch.bfloat16)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (tensor, storage.nbytes())
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"),
    ):
        ids = torch.randint(64, (ROWS, LENGTH))
        output = model.model(input_ids=ids, use_cache=False).last_hidden_state
    assert output.requires_grad
    return sum(size for _, size in kept.values())


torch.set_num_threads(1)
print("KEPT", json.dumps({
    f"{precision} {checkpointing}": [
        kept_bytes(layers, precision, checkpointing) for layers in DEPTHS
    ]
    for precision in ("float32", "autocast", "bfloat16")
    for checkpointing in (False, True)
}))
"""
ROWS, LENGTH, DEPTHS = 4, 128, (2, 6)
SIZES = {
    "vocab_size": 64,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attn_implementation": "sdpa",
}


@pytest.fixture(scope="module")
def kept(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, list[float]]:
    """Bytes of distinct tensors that a forward pass saves at each depth, weights left out."""
    names = {"SIZES_AS_JSON": repr(json.dumps(SIZES)), "ROWS": ROWS, "LENGTH": LENGTH}
    script = KEPT
    for name, value in (names | {"DEPTHS": DEPTHS}).items():
        script = script.replace(name, str(value))
    done = run_python("-c", script, folder=tmp_path_factory.mktemp("kept"))
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("KEPT ")]
    return dict(json.loads(line.removeprefix("KEPT ")))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["float32", "autocast", "bfloat16"])
def test_activations_are_what_torch_keeps(
    kept: dict[str, list[float]], precision: Any, checkpointing: bool
) -> None:
    """Two depths are compared, so that all but the layers themselves falls out."""
    shapes = [shape_of(LlamaConfig(**SIZES, num_hidden_layers=layers)) for layers in DEPTHS]
    planned = [
        stack_bytes(
            shape,
            precision,
            tokens=ROWS * LENGTH,
            row_tokens=LENGTH,
            checkpointed=layers if checkpointing else 0,
        )
        for layers, shape in zip(DEPTHS, shapes, strict=True)
    ]
    # Under autocast the bfloat16 copies of weights are kept, too.
    has_copies = precision == "autocast" and not checkpointing
    copies = 2 * (4 * shapes[0].layer_parameters[0]) if has_copies else 0
    few, many = kept[f"{precision} {checkpointing}"]
    assert planned[1] - planned[0] + copies == pytest.approx(many - few, rel=0.12)


def test_a_layer_by_hand(large: ModelShape) -> None:
    """`e (6 H + (2 h + 2 k) d + 4 I)` with H = 5120, h = 40, k = 8, d = 128, I = 27,648."""
    elements = 6 * 5120 + 2 * (40 + 8) * 128 + 4 * 27_648
    assert layer_bytes_per_token(large, "float32") == 4 * elements


def test_logits_are_held_in_tiles_or_in_chunks(large: ModelShape) -> None:
    def of(**settings: Any) -> float:
        usual = {"loss_tokens": 8192, "chunk_tokens": 2048, "on_gpu": True, "is_sharded": False}
        usual["is_restricted"] = False
        return head_bytes(large, "bfloat16", **{**usual, **settings})

    chunk = 2048 * large.vocabulary * 4
    assert of(is_sharded=True) >= chunk
    assert of(is_sharded=True) > of(is_sharded=True, chunk_tokens=512)
    # Never all logits of the micro-batch.
    assert of(is_sharded=True) < 8192 * large.vocabulary * 4 * 2
    assert of(is_sharded=False) < of(is_sharded=True) + large.embedding_parameters * 4
    # Top-k and its like are found in whole rows.
    assert of(is_restricted=True) >= of() + 4 * chunk
