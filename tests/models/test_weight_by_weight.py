"""Models whose weights are taken away one by one while they are read."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM

from rllib_dapo.models import load_causal_lm

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
KINDS = {
    "Llama": {},
    "Llama tied": {"tie_word_embeddings": True},
    "Qwen3Moe": EXPERTS | {"head_dim": 16},
    "Mixtral": {"num_local_experts": 4},
    "GPTNeoX": {},
    "Gemma2": {"head_dim": 16},
}


class Taker:
    """Puts each weight aside and leaves nothing of it; notes how much is in memory meanwhile."""

    def __init__(self) -> None:
        self.taken: list[torch.Tensor] = []
        self.weights: list[nn.Parameter] = []

    def take(self, weight: nn.Parameter) -> None:
        self.taken.append(weight.data.clone())
        self.weights.append(weight)
        weight.data = torch.empty(0, dtype=weight.dtype)

    def are_equal(self, one: nn.Parameter, other: nn.Parameter) -> bool:
        places = {id(weight): i for i, weight in enumerate(self.weights)}
        return torch.equal(self.taken[places[id(one)]], self.taken[places[id(other)]])

    def read(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """What was taken, by the names of a model's parameters."""
        places = {id(weight): i for i, weight in enumerate(self.weights)}
        return {n: self.taken[places[id(p)]] for n, p in model.named_parameters()}


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Saves a random model of a kind in float32."""

    def make(kind: str, **how: Any) -> Path:
        torch.manual_seed(0)
        settings = SIZES | KINDS[kind] | how.pop("settings", {})
        config = getattr(transformers, f"{kind.partition(' ')[0]}Config")(**settings)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model", **how)
        return tmp_path / "model"

    return make


def without_safetensors(folder: Path) -> Path:
    """The same model in torch's own format."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_taken_once_and_is_what_a_whole_model_has(
    save: Callable[..., Path], kind: str
) -> None:
    folder, taker = save(kind), Taker()
    model = load_causal_lm(folder, dtype=torch.float32, taker=taker)
    expected = load_causal_lm(folder, dtype=torch.float32)

    assert len(taker.taken) == len(list(model.parameters()))
    read, whole = taker.read(model), dict(expected.named_parameters())
    assert list(read) == list(whole)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in read.items())
    assert all(p.numel() == 0 for p in model.parameters())

    for (name, buffer), (_, other) in zip(
        model.named_buffers(), expected.named_buffers(), strict=True
    ):
        assert torch.equal(buffer, other), name
    assert model.config.to_dict() | {"_name_or_path": ""} == expected.config.to_dict() | {
        "_name_or_path": ""
    }
    assert type(model) is type(expected)
    assert not model.training


@pytest.mark.parametrize("files", ["several", "torch's format"])
def test_weights_may_lie_in_other_files(save: Callable[..., Path], files: str) -> None:
    if files == "several":
        folder = save("Mixtral", max_shard_size="20KB")
        assert len(list(folder.glob("*.safetensors"))) > 2
    else:
        folder = without_safetensors(save("Mixtral"))

    taker = Taker()
    model = load_causal_lm(folder, dtype=torch.bfloat16, taker=taker)
    expected = dict(load_causal_lm(folder, dtype=torch.bfloat16).named_parameters())
    assert all(torch.equal(t, expected[name]) for name, t in taker.read(model).items())
    assert len(taker.taken) == len(expected)


def test_a_weight_is_gone_before_the_next_one_is_read(save: Callable[..., Path]) -> None:
    folder = save("Qwen3Moe", settings={"num_hidden_layers": 6})

    class Watch(Taker):
        """Drops what it takes, and looks once for what is left of the others."""

        most = 0
        total = 0
        left: int | None = None

        def take(self, weight: nn.Parameter) -> None:
            super().take(weight)
            self.total += self.taken[-1].nbytes
            self.most = max(self.most, self.taken[-1].nbytes)
            self.taken[-1] = torch.empty(0)
            if len(self.taken) != 40:  # looking takes long
                return
            self.left = sum(
                t.untyped_storage().nbytes()
                for t in gc.get_objects()
                if issubclass(type(t), torch.Tensor)
                and t.device.type == "cpu"
                and id(t) not in before
            )

    watch = Watch()
    before = {id(t) for t in gc.get_objects() if issubclass(type(t), torch.Tensor)}
    load_causal_lm(folder, dtype=torch.float32, taker=watch)
    # The weight itself is still in the loader's hands, and a fused one beside its parts.
    assert watch.left is not None
    assert watch.left <= 3 * watch.most < watch.total / 5


def test_nothing_is_left_behind(save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_DEACTIVATE_ASYNC_LOAD", raising=False)
    folder, taker = save("Llama"), Taker()
    load_causal_lm(folder, dtype=torch.float32, taker=taker)
    assert "HF_DEACTIVATE_ASYNC_LOAD" not in os.environ

    count = len(taker.taken)
    whole = load_causal_lm(folder, dtype=torch.float32)
    assert len(taker.taken) == count
    assert all(p.numel() for p in whole.parameters())


# What the files have, and what config.json says of it


def with_head(folder: Path, *, differs: bool) -> Path:
    """Writes an output projection beside embeddings that are said to be it."""
    weights = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in weights
    head = weights["model.embed_tokens.weight"].clone()
    head[-1, -1] += differs
    save_file(weights | {"lm_head.weight": head}, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_shared_weight_that_lies_there_twice_is_shared(save: Callable[..., Path]) -> None:
    folder = with_head(save("Llama tied"), differs=False)
    model = load_causal_lm(folder, dtype=torch.float32, taker=Taker())
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


@pytest.mark.parametrize("taker", [None, Taker()], ids=["whole", "weight by weight"])
def test_two_different_weights_are_not_taken_for_a_shared_one(
    save: Callable[..., Path], taker: Taker | None
) -> None:
    folder = with_head(save("Llama tied"), differs=True)
    with pytest.raises(
        ValueError, match=r"^language_model\.name=.*tie_word_embeddings=true\)?, but"
    ):
        load_causal_lm(folder, dtype=torch.float32, taker=taker)


@pytest.mark.parametrize("taker", [None, Taker()], ids=["whole", "weight by weight"])
def test_a_weight_that_the_files_lack_is_named(
    save: Callable[..., Path], taker: Taker | None
) -> None:
    folder = save("Llama")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack the weights model\.layers\.1\.mlp\.up_proj"):
        load_causal_lm(folder, dtype=torch.float32, taker=taker)


@pytest.mark.parametrize("taker", [None, Taker()], ids=["whole", "weight by weight"])
def test_a_folder_without_weights_is_named_in_one_line(
    save: Callable[..., Path], taker: Taker | None, tmp_path: Path
) -> None:
    shutil.copytree(save("Llama"), tmp_path / "empty")
    (tmp_path / "empty" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"^language_model\.name=.*the model does not load") as e:
        load_causal_lm(tmp_path / "empty", dtype=torch.float32, taker=taker)
    assert "\n" not in str(e.value)
