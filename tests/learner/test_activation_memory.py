"""What the backward pass needs is recomputed, or waits elsewhere: gradients stay the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from rllib_dapo.learner.activation_memory import checkpoint_layers, offloaded


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).train()


def gradient(lm: LlamaForCausalLM) -> torch.Tensor:
    ids = torch.arange(60).view(2, 30)
    lm(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return torch.cat([p.grad.flatten() for p in lm.parameters()])


@pytest.mark.parametrize(("setting", "recomputed"), [(False, 0), (1, 1), (3, 3), (True, 3)])
def test_as_many_layers_are_recomputed_as_asked(setting: bool | int, recomputed: int) -> None:
    lm, passes = model(), []
    expected = gradient(model())
    checkpoint_layers(lm, setting)
    for layer in lm.model.layers:
        layer.mlp.register_forward_pre_hook(lambda *_: passes.append(1))
    assert torch.equal(gradient(lm), expected)
    assert len(passes) == 3 + recomputed


def test_more_layers_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gradient_checkpointing=4 is more than .* 3 layers"):
        checkpoint_layers(model(), 4)


def test_a_model_that_decides_for_all_layers_is_refused_a_number() -> None:
    lm = model()
    lm.model.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))
    with pytest.raises(ValueError, match="recomputes all of its layers or none"):
        checkpoint_layers(lm, 2)


class Product(nn.Module):
    """`x W`. (DeepSpeed puts a function of its own in the place of `linear`.)"""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(64, 64) / 64)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.mm(self.weight)


def test_activations_wait_elsewhere_and_weights_stay() -> None:
    layer = Product()
    inputs = torch.ones(64, 64, requires_grad=True)
    with offloaded(layer, pin_memory=False):
        output = layer(inputs).exp()
    (product, _), *_ = output.grad_fn.next_functions
    assert output.grad_fn._saved_result.data_ptr() != output.data_ptr()
    assert product._saved_mat2.data_ptr() == layer.weight.data_ptr()


def test_offloaded_activations_give_the_same_gradient() -> None:
    lm, expected = model(), gradient(model())
    with offloaded(lm, pin_memory=False):
        assert torch.equal(gradient(lm), expected)
