"""Adapters in vLLM: the right one for each request, its newest version, and what is held of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from rllib_dapo.learner.lora_adapter import LoraAdapter
from rllib_dapo.models import load_causal_lm, load_tokenizer, prompt_token_ids
from rllib_dapo.models.lora_settings import LoraSettings
from rllib_dapo.rollout.adapter import Adapter
from rllib_dapo.rollout.engine import Engine, Sampling
from rllib_dapo.rollout.make_engine import make_engine
from rllib_dapo.weight_checksums import as_matrix, checksum, choose_block, to_numbers

LORA = {"rank": 4}


@pytest.fixture(scope="module")
def prompt(raw_model: Path) -> list[int]:
    """It fills blocks of vLLM's cache: asked again, its beginning is found there."""
    return prompt_token_ids(load_tokenizer(raw_model), "+".join("1234567890" * 15) + "=")


@pytest.fixture(
    scope="module",
    params=[1, pytest.param(2, marks=pytest.mark.slow)],
    ids=["alone", "tensor parallel"],
)
def engine(request: pytest.FixtureRequest, raw_model: Path) -> Iterator[Engine]:
    engine = make_engine(
        "vllm",
        model=str(raw_model),
        dtype="float32",
        trust_remote_code=False,
        max_model_len=400,
        max_concurrent_responses=16,
        cpu_kv_cache_gib=0.25,
        seed=0,
        engine_kwargs={"max_loras": 2, "max_cpu_loras": 3},
        tensor_parallel_size=request.param,
        lora=LORA,
    )
    yield engine
    engine.close()


class Policy:
    """The model with an adapter of its own, in plain transformers and peft."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.lm: PreTrainedModel = load_causal_lm(folder, dtype=torch.float32)
        settings = LoraSettings(rank=4)
        self.adapter = LoraAdapter(self.lm, settings, seed=seed, dtype=torch.float32)
        self.change(seed)

    def change(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.adapter.parameters():
            parameter.data += 0.03 * torch.randn(parameter.shape, generator=generator)

    def handed_over(self, name: str) -> Adapter:
        return Adapter(
            name=name, config=self.adapter.peft_config(""), weights=dict(self.adapter.weights())
        )

    @torch.no_grad()
    def gap(self, prompt: list[int], response: Any) -> float:
        """Largest difference of a token's log-probability from the engine's."""
        tokens = torch.from_numpy(response.token_ids).long()
        ids = torch.cat([torch.tensor(prompt), tokens])[None]
        logits = self.lm(ids).logits[0, len(prompt) - 1 : -1]
        own = logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
        return float((own - torch.from_numpy(response.logprobs)).abs().max())


def sample(engine: Engine, prompt: list[int], name: str | None) -> Any:
    sampling = Sampling(num_responses=4, max_tokens=6, adapter=name)
    ((first, *_),) = engine.generate([prompt], sampling=sampling, seeds=[1])
    return first


def test_each_request_is_answered_by_its_own_adapter_in_its_newest_version(
    engine: Engine, prompt: list[int], raw_model: Path
) -> None:
    assert engine.takes_adapters
    with pytest.raises(RuntimeError, match="has no adapter 'one'"):
        sample(engine, prompt, "one")

    one, two = Policy(raw_model, seed=1), Policy(raw_model, seed=2)
    engine.load_adapter(one.handed_over("one"))
    engine.load_adapter(two.handed_over("two"))
    for _ in range(2):  # the second time, the prompt's keys and values are in the cache
        assert one.gap(prompt, sample(engine, prompt, "one")) < 1e-4
        assert two.gap(prompt, sample(engine, prompt, "two")) < 1e-4
    assert one.gap(prompt, sample(engine, prompt, "two")) > 1e-3
    base = sample(engine, prompt, None)
    with one.adapter.off():
        assert one.gap(prompt, base) < 1e-4

    for seed in range(3, 7):  # as often as there is no more room for old ones
        one.change(seed)
        engine.load_adapter(one.handed_over("one"))
        assert one.gap(prompt, sample(engine, prompt, "one")) < 1e-4
    assert two.gap(prompt, sample(engine, prompt, "two")) < 1e-4


def expected(policy: Policy, turn: int) -> dict[str, tuple[Any, int]]:
    found = {}
    for name, tensor in policy.adapter.weights():
        block = choose_block(name, tensor.shape, elements=64, turn=turn)
        scaling = policy.adapter.settings.scaling if "lora_B" in name else 1.0
        values = as_matrix(tensor)[:, block.start : block.stop] * scaling
        (number,) = to_numbers([checksum(values, first_column=block.start)])
        found[name] = (block, number)
    return found


def test_an_engine_tells_what_it_holds_of_each_adapter(engine: Engine, raw_model: Path) -> None:
    policy = Policy(raw_model, seed=8)
    engine.load_adapter(policy.handed_over("one"))
    for turn in range(4):
        wanted = expected(policy, turn)
        blocks = [block for block, _ in wanted.values()]
        parts = set(engine.adapter_checksums("one", blocks))
        sums: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for part in parts:
            sums[part.name] = sums.get(part.name, 0) + part.checksum
            sizes[part.name] = sizes.get(part.name, 0) + part.numel
        assert {name: number % 2**64 for name, number in sums.items()} == {
            name: number for name, (_, number) in wanted.items()
        }
        assert sizes == {name: block.numel for name, (block, _) in wanted.items()}
    assert engine.adapter_checksums("another", blocks) == []

    # One element of one tensor, behind everybody's back.
    policy.adapter.parameters()[3].data[0, 0] += 1e-3
    wanted = expected(policy, 0)
    parts = engine.adapter_checksums("one", [block for block, _ in wanted.values()])
    sums = {part.name: part.checksum for part in parts}
    if engine.num_workers == 1:
        assert sum(sums[name] != number for name, (_, number) in wanted.items()) == 1
