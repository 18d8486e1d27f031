"""Clients of one vLLM engine have adapters of the same name, and each samples from its own."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rllib_dapo.learner.lora_adapter import LoraAdapter
from rllib_dapo.models import load_causal_lm, load_tokenizer, prompt_token_ids
from rllib_dapo.models.lora_settings import LoraSettings
from rllib_dapo.rollout.adapter import Adapter
from rllib_dapo.rollout.engine import Engine, Sampling
from rllib_dapo.rollout.engine_host import EngineHost
from rllib_dapo.rollout.host_clients import HostAnswer
from rllib_dapo.rollout.make_engine import make_engine
from rllib_dapo.rollout.shared_engine import SharedEngine
from rllib_dapo.weight_checksums import choose_block

SAMPLING = Sampling(num_responses=4, max_tokens=6, adapter="policy")
SEEDS = list(range(12))


def make(model: Path) -> Engine:
    """A vLLM engine with room for two adapters."""
    return make_engine(
        "vllm",
        model=str(model),
        dtype="float32",
        trust_remote_code=False,
        max_model_len=32,
        max_concurrent_responses=16,
        cpu_kv_cache_gib=0.25,
        seed=0,
        engine_kwargs={},
        lora={"rank": 4},
        adapters=2,
    )


def adapter(model: Path, *, seed: int) -> Adapter:
    """An adapter called `policy`, with weights of its own."""
    made = LoraAdapter(
        load_causal_lm(model, dtype=torch.float32),
        LoraSettings(rank=4),
        seed=seed,
        dtype=torch.float32,
    )
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: tensor + 0.03 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in made.weights()
    }
    return Adapter(name="policy", config=made.peft_config(""), weights=weights)


def client(host: EngineHost) -> SharedEngine:
    """A client in this process."""

    def ask(method: str, *arguments: Any) -> HostAnswer:
        answer: HostAnswer = getattr(host, method)(*arguments)
        return answer

    return SharedEngine(ask)


def test_two_clients_sample_at_the_same_time_each_from_its_own_adapter(raw_model: Path) -> None:
    engines: list[Engine] = []

    def make_and_keep() -> Engine:
        engines.append(make(raw_model))
        return engines[-1]

    tokenizer = load_tokenizer(raw_model)
    prompts = [prompt_token_ids(tokenizer, f"{n}+{n}=") for n in SEEDS]
    found: dict[str, Any] = {}

    def sample(name: str, engine: Engine) -> None:
        groups = engine.generate(prompts, sampling=SAMPLING, seeds=SEEDS)
        found[name] = np.concatenate([c.logprobs for group in groups for c in group])

    host = EngineHost(make_and_keep, capacity=16, places=2)
    one, two = client(host), client(host)
    first, second = adapter(raw_model, seed=1), adapter(raw_model, seed=2)
    one.load_adapter(first)
    sample("one, alone", one)
    two.load_adapter(second)
    blocks = [choose_block(n, t.shape, elements=64, turn=0) for n, t in first.weights.items()]
    assert set(one.adapter_checksums("policy", blocks))
    assert not set(one.adapter_checksums("policy", blocks)) & set(
        two.adapter_checksums("policy", blocks)
    )

    threads = [
        threading.Thread(target=sample, args=arguments)
        for arguments in (("one", one), ("two", two))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(found["one"], found["one, alone"], atol=1e-5)
    assert found["one"].shape != found["two"].shape or not np.allclose(
        found["one"], found["two"], atol=1e-2
    )

    # A client that has asked for much, and leaves, takes all of it along.
    for _ in range(3):
        two.generate(prompts[:1], sampling=SAMPLING, seeds=[1])
    two.close()
    held = engines[0]._adapters._held  # type: ignore[attr-defined]
    assert list(held) == [f"{one._client}/policy"]
    sample("one, alone again", one)
    np.testing.assert_allclose(found["one, alone again"], found["one, alone"], atol=1e-5)
    host.close()
