"""Weights under the names that `save_pretrained` writes, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from rllib_dapo.learner.model_folder import read_weights
from rllib_dapo.models import CheckpointFormat, load_causal_lm

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
    "Qwen2Moe": EXPERTS | {"shared_expert_intermediate_size": 16},
    "Qwen3Moe": EXPERTS | {"head_dim": 16},
    "Mixtral": {"num_local_experts": 4},
    "GPTNeoX": {},
    "Gemma2": {"head_dim": 16},
}


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> PreTrainedModel:
    torch.manual_seed(0)
    kind = request.param.partition(" ")[0]
    config = getattr(transformers, f"{kind}Config")(**SIZES | KINDS[request.param])
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    return AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)


def test_what_is_sent_is_what_save_pretrained_writes(
    model: PreTrainedModel, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "again")
    written = load_file(tmp_path / "again" / "model.safetensors")
    sent = dict(CheckpointFormat(model).to_checkpoint(model.state_dict().items()))
    assert sent.keys() == written.keys()
    assert all(torch.equal(tensor, written[name]) for name, tensor in sent.items())


def test_the_way_back_gives_the_same_weights(model: PreTrainedModel) -> None:
    convert = CheckpointFormat(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    read = convert.from_checkpoint(dict(convert.to_checkpoint(before.items())))
    assert read.keys() <= before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in read.items())

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model.load_state_dict(read, strict=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("fault", ["missing", "unknown", "reshaped"])
def test_weights_of_another_kind_of_model_are_refused_by_name(
    model: PreTrainedModel, fault: str
) -> None:
    convert = CheckpointFormat(model)
    weights = dict(convert.to_checkpoint(model.state_dict().items()))
    name = next(name for name in weights if "norm" in name)
    if fault == "missing":
        del weights[name]
    elif fault == "unknown":
        name = "model.extra.weight"
        weights[name] = torch.zeros(1)
    else:
        weights[name] = torch.zeros(7)

    with pytest.raises(ValueError, match="these weights belong to another model") as caught:
        convert.from_checkpoint(weights)
    assert name.rpartition(".")[0].rpartition(".")[2] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tied_weights_may_be_left_out(raw_model: Path, other_raw_model: Path) -> None:
    model = load_causal_lm(raw_model, dtype=torch.float32)
    weights = read_weights(other_raw_model)
    assert "lm_head.weight" not in weights
    model.load_state_dict(CheckpointFormat(model).from_checkpoint(weights), strict=False)
    expected = load_causal_lm(other_raw_model, dtype=torch.float32).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("removed", "added", "said"),
    [
        (
            "model.norm.weight",
            {},
            r"missing \['model\.norm\.weight'\], unknown \[\], of another shape \[\]",
        ),
        (
            None,
            {"model.x.weight": 1},
            r"missing \[\], unknown \['model\.x\.weight'\], of another shape \[\]",
        ),
        (
            None,
            {"model.norm.weight": 7},
            r"missing \[\], unknown \[\], of another shape \['model\.norm\.weight'\]",
        ),
    ],
)
def test_weights_of_another_model_are_refused_by_name_and_none_is_taken(
    raw_model: Path, other_raw_model: Path, removed: str | None, added: dict[str, int], said: str
) -> None:
    model = load_causal_lm(raw_model, dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = {
        name: tensor for name, tensor in read_weights(other_raw_model).items() if name != removed
    }
    with pytest.raises(ValueError, match="^these weights belong to another model: " + said + "$"):
        CheckpointFormat(model).from_checkpoint(
            weights | {name: torch.zeros(size) for name, size in added.items()}
        )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
