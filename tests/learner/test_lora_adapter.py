"""A Learner with an adapter: what is trained, what is saved, and what the reference is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from ray.rllib.core import DEFAULT_MODULE_ID
from transformers import LlamaConfig

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.adapter_folder import read_adapter
from rllib_dapo.learner.lora_adapter import merged
from rllib_dapo.models import load_causal_lm
from rllib_dapo.models.tiny import make_tokenizer

LORA = {"rank": 4}


def shaken(trainer: Any) -> Any:
    """The trainer with an adapter that changes something: at the start, `B` is 0."""
    generator = torch.Generator().manual_seed(0)
    for parameter in trainer.module.adapter.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.data += 0.05 * noise
    return trainer


@pytest.fixture
def lora_config(learner_config: Callable[..., DAPOConfig]) -> Callable[..., DAPOConfig]:
    def make(*, dtype: str = "float32", **lora: Any) -> DAPOConfig:
        return learner_config().language_model(dtype=dtype, lora=LORA | lora)

    return make


def test_adapter_and_value_head_alone_are_trained(
    lora_config: Callable[..., DAPOConfig], make_trainer: Any, make_data: Any
) -> None:
    config = lora_config().training(advantage_estimator="gae", old_logprobs="trainer")
    trainer = make_trainer(config)
    module, optimizer = trainer.module, trainer.learner.get_optimizer(DEFAULT_MODULE_ID)
    adapter = {id(p) for p in module.adapter.parameters()}
    heads = {id(p) for p in module.value_head.parameters()}
    in_groups = [{id(p) for p in group["params"]} for group in optimizer.param_groups]
    assert in_groups == [adapter, heads]

    names = {id(p): name for name, p in module.named_parameters()}
    before = {name: p.clone() for name, p in module.named_parameters()}
    trainer.update(make_data())
    trainer.update(make_data())  # `A` has no gradient before `B` has left 0
    moved = {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {names[number] for number in adapter | heads}


def test_training_begins_with_the_base_and_is_the_same_on_every_learner(
    lora_config: Callable[..., DAPOConfig], build_module: Any, raw_model: Path
) -> None:
    torch.manual_seed(1)
    one = build_module(lora_config())
    torch.manual_seed(2)
    other, base = build_module(lora_config()), load_causal_lm(raw_model, dtype=torch.float32)
    for (name, a), (_, b) in zip(
        one.adapter.named_parameters(), other.adapter.named_parameters(), strict=True
    ):
        assert torch.equal(a, b)
        assert bool((a == 0).all()) == (".lora_B." in name)
    seeded = build_module(lora_config().debugging(seed=5))
    assert not torch.equal(seeded.adapter.parameters()[0], one.adapter.parameters()[0])

    ids = torch.arange(8)[None]
    assert torch.equal(one.lm(ids).logits, base(ids).logits)


@pytest.mark.parametrize("rslora", [False, True])
def test_merged_weights_compute_what_the_adapter_does(
    lora_config: Callable[..., DAPOConfig], make_trainer: Any, raw_model: Path, rslora: bool
) -> None:
    """In float64, where rounding hardly matters."""
    trainer = shaken(make_trainer(lora_config(dtype="float64", rslora=rslora)))
    plain = load_causal_lm(raw_model, dtype=torch.float64)
    ids = torch.arange(8)[None]
    before = plain(ids).logits

    state = dict(trainer.module.whole_weights())
    missing, unknown = plain.load_state_dict(state, strict=False)
    assert (missing, unknown) == ([], []) or missing == ["lm_head.weight"]
    after = trainer.module.lm(ids).logits
    torch.testing.assert_close(plain(ids).logits, after, rtol=1e-6, atol=1e-6)
    assert (after - before).abs().max() > 1e-2


def test_a_merged_weight_by_hand() -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    a, b = torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0], [0.5]])
    expected = torch.tensor([[1 + 6.0, 2 - 6.0], [3 + 1.5, 4 - 1.5]])
    assert torch.equal(merged(weight, a, b, 3.0), expected)
    # Half of a last place of bfloat16 is not lost before the sum is rounded.
    half = merged(weight.bfloat16(), a, torch.full((2, 1), 2**-10), 1.0)
    assert half.dtype == torch.float32
    assert half[0, 0] == 1 + 2**-10


def test_the_base_with_its_adapter_off_is_the_reference(
    lora_config: Callable[..., DAPOConfig], make_trainer: Any, make_data: Any, raw_model: Path
) -> None:
    """No second model is loaded, and gradients and training go on as before."""
    trainer = make_trainer(lora_config().kl(coefficient=0.1))
    shaken(trainer)
    module = trainer.module
    held = {p.data_ptr() for p in module.parameters()}
    (reference,) = module._reference
    assert not list(reference.parameters())
    assert {p.data_ptr() for p in reference.lm.parameters()} <= held

    references: list[torch.Tensor] = []
    batches = [b for m in trainer.prepared(make_data(), references=references) for b in m.batches]
    plain = make_trainer(trainer.config.copy(copy_frozen=False).language_model(lora=None)).module
    for batch, own in zip(batches, references, strict=True):
        expected = plain.reference_logprobs(batch)
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-6)
        policy = module.forward_train(batch)["logprobs"]
        assert (policy - own).abs().max() > 1e-2
        assert policy.requires_grad
    assert all(p.requires_grad for p in module.adapter.parameters())
    assert trainer.update(make_data())["kl"] > 0


def test_the_adapter_is_saved_in_pefts_format_and_read_again(
    lora_config: Callable[..., DAPOConfig], make_trainer: Any, raw_model: Path, tmp_path: Path
) -> None:
    trainer = shaken(make_trainer(lora_config(rslora=True, alpha=8)))
    module = trainer.module
    module.save_to_path(tmp_path / "module")
    base = load_causal_lm(raw_model, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, tmp_path / "module")
    ids = torch.arange(8)[None]
    torch.testing.assert_close(loaded(ids).logits, module.lm(ids).logits, rtol=0, atol=1e-6)

    other = make_trainer(lora_config(rslora=True, alpha=8)).module
    other.restore_from_path(tmp_path / "module")
    assert all(map(torch.equal, module.adapter.parameters(), other.adapter.parameters()))
    config, weights = read_adapter(tmp_path / "module")
    assert config["base_model_name_or_path"] == str(raw_model)
    assert set(weights) == set(dict(module.adapter.named_parameters()))

    wider = make_trainer(lora_config(rank=8)).module
    with pytest.raises(ValueError, match=r"belong to another adapter.*what it was"):
        wider.restore_from_path(tmp_path / "module")


def test_a_state_has_the_adapter_alone(
    lora_config: Callable[..., DAPOConfig], make_trainer: Any
) -> None:
    trainer = shaken(make_trainer(lora_config()))
    state = trainer.module.get_state()
    assert set(state) == set(dict(trainer.module.adapter.named_parameters()))
    other = make_trainer(lora_config()).module
    other.set_state(state)
    assert all(np.array_equal(state[name], array) for name, array in other.get_state().items())


def test_in_bfloat16_the_base_is_held_in_it_and_the_adapter_in_float32(
    lora_config: Callable[..., DAPOConfig], make_trainer: Any, make_data: Any
) -> None:
    config = lora_config(dtype="bfloat16").training(advantage_estimator="gae", lr=1e-6)
    trainer = make_trainer(config)
    module = trainer.module
    assert {p.dtype for p in module.lm.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert {p.dtype for p in module.parameters() if p.requires_grad} == {torch.float32}

    before = [p.clone() for p in module.adapter.parameters()]
    for _ in range(2):
        trainer.update(make_data())
    # Steps of 1e-6, which bfloat16 would round away.
    assert not any(map(torch.equal, before, module.adapter.parameters()))


def test_of_a_wide_model_a_twentieth_is_trained_kept_and_sent(
    learner_config: Callable[..., DAPOConfig], build_module: Any, tmp_path: Path
) -> None:
    """Rank 8 of a width of 512: what an adapter has grows with the width, not its square."""
    from transformers import AutoModelForCausalLM

    shape = LlamaConfig(
        vocab_size=100,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(shape).save_pretrained(tmp_path / "wide")
    make_tokenizer().save_pretrained(tmp_path / "wide")

    sizes = {}
    for lora in (None, {"rank": 8}):
        module = build_module(learner_config(tmp_path / "wide").language_model(lora=lora))
        module.save_to_path(tmp_path / str(lora))
        sizes[lora is None] = (
            sum(p.numel() for p in module.parameters() if p.requires_grad),
            sum(file.stat().st_size for file in (tmp_path / str(lora)).rglob("*.safetensors")),
        )
    for adapter, whole in zip(sizes[False], sizes[True], strict=True):
        assert adapter < 0.05 * whole
    hidden, inner, rank = 512, 1536, 8
    assert sizes[False][0] == 2 * rank * (4 * 2 * hidden + 3 * (hidden + inner))
    assert json.loads((tmp_path / "{'rank': 8}" / "adapter_config.json").read_text())["r"] == 8
