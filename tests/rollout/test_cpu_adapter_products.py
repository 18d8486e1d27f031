"""Products with several adapters at a time, against each token's own, one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.punica_selector import get_punica_wrapper
from vllm.platforms import current_platform

from rllib_dapo.rollout import vllm_transfer
from rllib_dapo.rollout.cpu_adapter_products import GroupedProducts

INPUTS, RANK, SCALE = 6, 3, 0.5
SLICES = (5, 2)
ADAPTERS = 3


def matrices(dtype: torch.dtype) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    torch.manual_seed(0)
    a = tuple(torch.randn(ADAPTERS, 1, RANK, INPUTS, dtype=dtype) for _ in SLICES)
    b = tuple(torch.randn(ADAPTERS, 1, size, RANK, dtype=dtype) for size in SLICES)
    return a, b


def products(ids: list[int], *, is_prefill: bool) -> GroupedProducts:
    """Ready for a batch whose tokens belong to adapters 11 to 13, or to none (0)."""
    products = GroupedProducts(64, 64, "cpu")
    mapping = LoRAMapping(tuple(ids), tuple(ids), is_prefill=is_prefill)
    products.update_metadata(mapping, [11, 12, 13], ADAPTERS, 100)
    return products


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("is_prefill", [False, True], ids=["decoding", "prompts"])
@pytest.mark.parametrize(
    "ids",
    [
        *([11], [12, 12, 12], [11, 11, 13], [13, 0, 11, 13, 12, 0, 11], [0, 0], [0, 12]),
        [*[13] * 5, 12, *[13] * 6, 11, 12],  # most of them of one adapter
    ],
    ids=str,
)
def test_each_token_is_multiplied_with_its_own_adapter(
    ids: list[int], is_prefill: bool, dtype: torch.dtype
) -> None:
    a, b = matrices(dtype)
    x = torch.randn(len(ids), INPUTS, dtype=dtype)
    y = torch.randn(len(ids), sum(SLICES), dtype=dtype)
    expected = y.double()
    for token, number in enumerate(ids):
        if number:
            place = number - 11
            expected[token] += torch.cat(
                [
                    SCALE * second[place, 0].double() @ first[place, 0].double() @ x[token].double()
                    for first, second in zip(a, b, strict=True)
                ]
            )

    products(ids, is_prefill=is_prefill).add_lora_linear(y, x, a, b, SCALE, SLICES)
    limits = {torch.float32: 1e-5, torch.bfloat16: 0.15}
    assert float((y.double() - expected).abs().max()) < limits[dtype]


def test_a_batch_after_another_one_has_its_own_groups() -> None:
    a, b = matrices(torch.float32)
    x = torch.randn(2, INPUTS)
    reused = products([13, 11, 12], is_prefill=False)
    mapping = LoRAMapping((12, 11), (12, 11), is_prefill=False)
    reused.update_metadata(mapping, [11, 12, 13], ADAPTERS, 100)

    found = []
    for kind in (reused, products([12, 11], is_prefill=False)):
        y = torch.zeros(1, 2, sum(SLICES))  # as some layers hand them over
        kind.add_lora_linear(y, x[None], a, b, SCALE, SLICES)
        found.append(y)
    assert torch.equal(*found)


def test_workers_on_cpus_use_it() -> None:
    assert vllm_transfer.WeightReceiver  # every worker imports this module
    assert current_platform.is_cpu()
    assert type(get_punica_wrapper(8, 8, "cpu")) is GroupedProducts
