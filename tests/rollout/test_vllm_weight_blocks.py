"""What vLLM's workers hold is read bit for bit, in whatever form they hold it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, LlamaForCausalLM, PreTrainedModel

from rllib_dapo.rollout.engine import Engine
from rllib_dapo.rollout.make_engine import make_engine
from rllib_dapo.weight_checksums import (
    MODULUS,
    WeightBlock,
    as_matrix,
    checksum,
    choose_block,
    to_numbers,
)

ELEMENTS, TURNS = 5000, 3
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def folder(raw_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with one head of keys for two of queries, biases, and an output of its own."""
    made = tmp_path_factory.mktemp("model") / "biased"
    shutil.copytree(raw_model, made)
    config = AutoConfig.from_pretrained(raw_model)
    config.num_key_value_heads = 1
    config.attention_bias = config.mlp_bias = True
    config.tie_word_embeddings = False

    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        parameter.data.normal_()
    model.save_pretrained(made)
    return made


@contextmanager
def started(folder: Path, dtype: str, **engine_kwargs: Any) -> Iterator[Engine]:
    engine = make_engine(
        "vllm",
        model=str(folder),
        dtype=dtype,
        trust_remote_code=False,
        max_model_len=64,
        max_concurrent_responses=4,
        cpu_kv_cache_gib=0.1,
        seed=0,
        engine_kwargs=engine_kwargs,
    )
    try:
        yield engine
    finally:
        engine.close()


def blocks_and_sums(
    model: PreTrainedModel, dtype: torch.dtype, *, turn: int
) -> dict[str, tuple[WeightBlock, int]]:
    found = {}
    for name, weight in model.named_parameters():
        block = choose_block(name, weight.shape, elements=ELEMENTS, turn=turn)
        columns = as_matrix(weight)[:, block.start : block.stop].to(dtype)
        (number,) = to_numbers([checksum(columns, first_column=block.start)])
        found[name] = block, number
    return found


def assert_all_is_read(engine: Engine, folder: Path, dtype: str) -> None:
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for turn in range(TURNS):
        expected = blocks_and_sums(model, getattr(torch, dtype), turn=turn)
        parts = set(engine.weight_checksums([block for block, _ in expected.values()]))
        for name, (block, number) in expected.items():
            held = [part for part in parts if part.name == name]
            assert sum(part.numel for part in held) == block.numel, name
            assert sum(part.checksum for part in held) % MODULUS == number, name


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_weight_of_one_worker_is_read(folder: Path, dtype: str) -> None:
    with started(folder, dtype) as engine:
        assert_all_is_read(engine, folder, dtype)
        assert engine.weight_checksums([WeightBlock(name="x.y", rows=1, start=0, stop=1)]) == []


@pytest.mark.slow
def test_the_parts_of_two_tensor_parallel_workers_add_up(folder: Path) -> None:
    """Both hold the one head of keys, and half of everything else that is large."""
    settings = {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}
    with started(folder, "bfloat16", **settings) as engine:
        assert_all_is_read(engine, folder, "bfloat16")


@pytest.mark.slow
def test_an_embedding_that_the_output_shares_is_packed_once_for_both(raw_model: Path) -> None:
    """Its own packed copy is made where something multiplies with it, and of the new weights."""
    weights = LlamaForCausalLM.from_pretrained(raw_model, dtype=torch.bfloat16).state_dict()
    del weights["lm_head.weight"]
    hidden = torch.randn(3, weights[EMBEDDING].shape[1]).bfloat16()
    with started(raw_model, "bfloat16") as engine:
        worker = engine.llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker
        model = worker.model_runner.get_model()
        table, output = model.model.embed_tokens, model.lm_head
        assert table.weight is output.weight

        for _ in range(2):
            weights[EMBEDDING].normal_()
            engine.load_weights(iter(weights.items()))
            unpacked = table.cpu_linear
            product = table.quant_method.apply(table, hidden)
            assert table.cpu_linear is not unpacked

            expected = output.quant_method.apply(output, hidden)
            assert torch.equal(product, expected)
            assert torch.allclose(
                product[:, : len(weights[EMBEDDING])].float(),
                hidden.float() @ weights[EMBEDDING].float().T,
                rtol=0.02,
                atol=0.1,
            )
