"""The gradient of a mini-batch is the same however it is cut, packed, padded or spread."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rllib_dapo.core import (
    LOSS_AGGREGATIONS,
    MicroBatchPlan,
    attention_mask,
    chunked_logprobs,
    collate,
    dapo_objective,
    generalized_advantages,
    importance_weights,
    plan_minibatch,
    terminal_rewards,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from rllib_dapo.core import LossAggregation, PromptGroup, TrainResponse

VOCABULARY, HIDDEN, TEMPERATURE = 32, 16, 0.7
INVARIANT = [name for name in LOSS_AGGREGATIONS if name != "microbatch_token_mean"]
SEPARATE, SHARED = 0, 20
# Bounds on a micro-batch in tokens, and the micro-batches that come of it with every response in a
# row of its own.
CUTS = {1: 1000, 2: 80, 5: 32}

Data = tuple["dict[int, PromptGroup]", "list[TrainResponse]"]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    """A tiny Llama in float64 throughout."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(config)

    # Llama's own norm computes in float32 whatever the weights: too coarse for these tolerances.
    for layer in model.model.layers:
        layer.input_layernorm = torch.nn.RMSNorm(HIDDEN, eps=config.rms_norm_eps)
        layer.post_attention_layernorm = torch.nn.RMSNorm(HIDDEN, eps=config.rms_norm_eps)
    model.model.norm = torch.nn.RMSNorm(HIDDEN, eps=config.rms_norm_eps)
    return model.double()


@pytest.fixture(scope="module")
def data(
    make_group: Callable[..., PromptGroup], to_train: Callable[..., list[TrainResponse]]
) -> Data:
    """Three groups with unequal prompts, sizes and lengths.

    The environment wrote a part of the last response of each.
    """
    rng = np.random.default_rng(0)
    sizes = {0: (3, [2, 9, 5, 7]), 1: (6, [4, 12, 1]), 2: (2, [15, 3, 6, 8])}
    groups = {}

    for key, (prompt, lengths) in sizes.items():
        masks = [[True] * n for n in lengths]
        masks[-1] = [t % 3 != 1 for t in range(lengths[-1])]
        groups[key] = make_group(
            rng.integers(VOCABULARY, size=prompt),
            [rng.integers(VOCABULARY, size=n) for n in lengths],
            loss_masks=masks,
            logprobs=[-math.log(VOCABULARY) + 0.5 * rng.standard_normal(n) for n in lengths],
            rewards=[1.0 if i % 2 else -1.0 for i in range(len(lengths))],
        )

    return groups, to_train(groups, rng.standard_normal(11).tolist())


def micro_outputs(
    model: LlamaForCausalLM, batch: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """`[B, T]` log-probabilities, entropies, and values, a fixed projection of the states."""
    hidden = model.model(
        input_ids=batch["input_ids"].long(),
        attention_mask=attention_mask(batch["segment_ids"]) if "segment_ids" in batch else None,
        position_ids=batch["position_ids"].long() if "position_ids" in batch else None,
        use_cache=False,
    ).last_hidden_state

    predicting = hidden.flatten(0, 1)[batch["predictor"].flatten().long()]
    logprobs, entropy = chunked_logprobs(
        predicting,
        model.lm_head,
        batch["response_ids"].flatten().long(),
        temperature=TEMPERATURE,
        chunk_tokens=16,
    )
    values = predicting @ torch.linspace(-0.5, 0.5, HIDDEN, dtype=torch.float64)
    return tuple(output.view_as(batch["response_ids"]) for output in (logprobs, entropy, values))


def policy_loss(
    batch: Mapping[str, Tensor], logprobs: Tensor, *_: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """DAPO's loss: no other term."""
    return dapo_objective(
        logprobs=logprobs,
        old_logprobs=batch["sampler_logprobs"],
        **{name: batch[name] for name in ("advantages", "mask", "weights")},
        epsilon_low=0.2,
        epsilon_high=0.28,
    )


def whole_objective(
    batch: Mapping[str, Tensor], logprobs: Tensor, entropy: Tensor, values: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss with every term on.

    Figures of other models are made up from the tokens, so they are the same for every cut.
    """
    mask, ids = batch["mask"], batch["response_ids"]
    old, old_values = batch["sampler_logprobs"].double() - 1.1, torch.cos(2.0 * ids)
    _, returns = generalized_advantages(
        terminal_rewards(batch["rewards"], mask), old_values, mask, gamma=0.99, gae_lambda=0.95
    )

    return dapo_objective(
        logprobs=logprobs,
        old_logprobs=old,
        **{name: batch[name] for name in ("advantages", "mask", "weights")},
        epsilon_low=0.2,
        epsilon_high=0.28,
        dual_clip=3.0,
        ratio_level="sequence",
        token_weights=importance_weights(old, old + 0.3 * torch.sin(3.0 * ids), mask, cap=1.2),
        entropy=entropy,
        entropy_coefficient=0.1,
        ref_logprobs=old + 0.3 * torch.cos(5.0 * ids),
        kl_coefficient=0.2,
        values=values,
        old_values=old_values,
        returns=returns,
        value_loss_coefficient=0.5,
        value_clip=0.5,
    )


Objective = Any  # one of the two above


def micro_loss(
    model: LlamaForCausalLM,
    plan: MicroBatchPlan,
    groups: Mapping[int, PromptGroup],
    pad_token_id: int,
    objective: Objective = policy_loss,
) -> tuple[Tensor, dict[str, Tensor]]:
    batch = collate(plan, groups, pad_token_id=pad_token_id)
    return objective(batch, *micro_outputs(model, batch))


def flat_gradient(model: LlamaForCausalLM) -> Tensor:
    gradients = [parameter.grad for parameter in model.parameters()]
    return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])


def minibatch_gradient(
    model: LlamaForCausalLM,
    data: Data,
    *,
    objective: Objective = policy_loss,
    expect_micro_batches: int | None = None,
    pad_token_id: int = 3,
    **cut: Any,
) -> tuple[float, Tensor]:
    """Loss and gradient summed over all micro-batches of all Learners."""
    groups, responses = data
    shards = plan_minibatch(responses, max_response_tokens=20, **cut)
    plans = [plan for shard in shards for plan in shard]
    assert expect_micro_batches in (None, len(plans))
    model.zero_grad()
    total = 0.0
    for plan in plans:
        loss, _ = micro_loss(model, plan, groups, pad_token_id, objective)
        torch.autograd.backward(loss)
        total += loss.item()
    return total, flat_gradient(model)


def difference(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


def test_the_example_reaches_both_clip_bounds(model: LlamaForCausalLM, data: Data) -> None:
    groups, responses = data
    ((plan,),) = plan_minibatch(
        responses,
        loss_aggregation="token_mean",
        max_response_tokens=20,
        max_tokens_per_microbatch=1000,
    )
    _, statistics = micro_loss(model, plan, groups, pad_token_id=3)
    assert statistics["clip_low_count"] > 0
    assert statistics["clip_high_count"] > 0
    assert statistics["clip_low_count"] + statistics["clip_high_count"] < statistics["tokens"] / 2


@pytest.mark.parametrize("loss_aggregation", INVARIANT)
def test_the_gradient_does_not_depend_on_the_number_of_micro_batches(
    model: LlamaForCausalLM, data: Data, loss_aggregation: LossAggregation
) -> None:
    (whole_loss, whole), *cut = [
        minibatch_gradient(
            model,
            data,
            loss_aggregation=loss_aggregation,
            max_tokens_per_microbatch=bound,
            expect_micro_batches=count,
        )
        for count, bound in CUTS.items()
    ]

    for loss, gradient in cut:
        assert loss == pytest.approx(whole_loss, rel=1e-10)
        assert difference(gradient, whole) < 1e-10


@pytest.mark.parametrize("count", [2, 5])
def test_only_microbatch_token_mean_depends_on_the_number_of_micro_batches(
    model: LlamaForCausalLM, data: Data, count: int
) -> None:
    name = "microbatch_token_mean"
    _, whole = minibatch_gradient(
        model, data, loss_aggregation=name, max_tokens_per_microbatch=CUTS[1]
    )
    _, cut = minibatch_gradient(
        model, data, loss_aggregation=name, max_tokens_per_microbatch=CUTS[count]
    )
    _, token_mean = minibatch_gradient(
        model, data, loss_aggregation="token_mean", max_tokens_per_microbatch=1000
    )
    assert difference(whole, token_mean) < 1e-10
    assert difference(cut, whole) > 0.01


@pytest.mark.parametrize(("max_row_tokens", "num_shards"), [(SEPARATE, 2), (SHARED, 3)])
@pytest.mark.parametrize("loss_aggregation", INVARIANT)
def test_the_gradients_of_all_learners_sum_to_that_of_one_whether_rows_are_shared_or_not(
    model: LlamaForCausalLM,
    data: Data,
    loss_aggregation: LossAggregation,
    max_row_tokens: int,
    num_shards: int,
) -> None:
    _, alone = minibatch_gradient(
        model, data, loss_aggregation=loss_aggregation, max_tokens_per_microbatch=1000
    )
    _, spread = minibatch_gradient(
        model,
        data,
        loss_aggregation=loss_aggregation,
        max_tokens_per_microbatch=70,
        max_row_tokens=max_row_tokens,
        num_shards=num_shards,
    )
    assert difference(spread, alone) < 1e-10


def test_the_example_of_the_whole_objective_reaches_its_clips(
    model: LlamaForCausalLM, data: Data
) -> None:
    groups, responses = data
    ((plan,),) = plan_minibatch(
        responses,
        loss_aggregation="token_mean",
        max_response_tokens=20,
        max_tokens_per_microbatch=1000,
    )
    _, statistics = micro_loss(model, plan, groups, pad_token_id=3, objective=whole_objective)
    for name in ("clip_low_count", "clip_high_count", "value_clip_count"):
        assert 0 < statistics[name] < statistics["tokens"] / 2, name


@pytest.mark.parametrize("num_shards", [1, 2])
@pytest.mark.parametrize("loss_aggregation", INVARIANT)
def test_loss_and_gradient_of_the_whole_objective_do_not_depend_on_the_cut(
    model: LlamaForCausalLM, data: Data, loss_aggregation: LossAggregation, num_shards: int
) -> None:
    arguments: dict[str, Any] = {"objective": whole_objective, "loss_aggregation": loss_aggregation}
    whole_loss, whole = minibatch_gradient(model, data, max_tokens_per_microbatch=1000, **arguments)

    for count, bound in CUTS.items():
        rounded_up = -(-count // num_shards) * num_shards
        loss, gradient = minibatch_gradient(
            model,
            data,
            max_tokens_per_microbatch=bound,
            num_shards=num_shards,
            expect_micro_batches=rounded_up,
            **arguments,
        )
        assert loss == pytest.approx(whole_loss, rel=1e-10)
        assert difference(gradient, whole) < 1e-10


@pytest.mark.parametrize("count", [2, 5])
def test_only_microbatch_token_mean_changes_the_whole_objective_with_the_cut(
    model: LlamaForCausalLM, data: Data, count: int
) -> None:
    arguments: dict[str, Any] = {
        "objective": whole_objective,
        "loss_aggregation": "microbatch_token_mean",
    }
    _, whole = minibatch_gradient(model, data, max_tokens_per_microbatch=CUTS[1], **arguments)
    _, cut = minibatch_gradient(model, data, max_tokens_per_microbatch=CUTS[count], **arguments)
    assert difference(cut, whole) > 0.01


def test_an_empty_micro_batch_has_a_loss_of_zero_and_a_gradient_of_zero_for_every_weight(
    model: LlamaForCausalLM,
) -> None:
    model.zero_grad()
    loss, _ = micro_loss(
        model, MicroBatchPlan(rows=(), weights=()), {}, pad_token_id=3, objective=whole_objective
    )
    torch.autograd.backward(loss)
    assert loss.item() == 0.0
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert flat_gradient(model).abs().sum().item() == 0.0


def test_the_id_of_padding_changes_nothing(model: LlamaForCausalLM, data: Data) -> None:
    cut: dict[str, Any] = {"loss_aggregation": "token_mean", "max_tokens_per_microbatch": 1000}
    _, one = minibatch_gradient(model, data, pad_token_id=3, **cut)
    _, other = minibatch_gradient(model, data, pad_token_id=VOCABULARY - 1, **cut)
    assert difference(other, one) < 1e-12


@pytest.mark.parametrize("max_row_tokens", [SEPARATE, SHARED, 1000])
def test_rows_give_the_log_probabilities_and_gradients_of_the_model_run_plainly_on_each_response(
    model: LlamaForCausalLM, data: Data, max_row_tokens: int
) -> None:
    groups, responses = data
    ((plan,),) = plan_minibatch(
        responses,
        loss_aggregation="token_mean",
        max_response_tokens=20,
        max_tokens_per_microbatch=1000,
        max_row_tokens=max_row_tokens,
    )
    assert len(plan.rows) == {SEPARATE: 11, SHARED: 6, 1000: 3}[max_row_tokens]
    logprobs, *_ = micro_outputs(model, collate(plan, groups, pad_token_id=3))
    upstream = torch.randn(
        logprobs.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )

    plain = []
    for planned in plan.responses:
        ids = groups[planned.group].responses[planned.index].token_ids
        row = torch.as_tensor(np.concatenate([groups[planned.group].prompt_ids, ids])).long()
        scores = (model(row[None], use_cache=False).logits[0] / TEMPERATURE).log_softmax(-1)
        plain.append(scores[:-1].gather(-1, row[1:, None])[-len(ids) :, 0])

    for row_of_batch, expected in zip(logprobs, plain, strict=True):
        torch.testing.assert_close(row_of_batch[: len(expected)], expected, rtol=1e-10, atol=1e-10)

    here = torch.arange(logprobs.shape[1]) < torch.tensor([[len(p)] for p in plain])
    model.zero_grad()
    torch.autograd.backward((logprobs * upstream)[here].sum())
    gradient = flat_gradient(model)
    model.zero_grad()
    torch.autograd.backward((torch.cat(plain) * upstream[here]).sum())
    assert difference(gradient, flat_gradient(model)) < 1e-10
