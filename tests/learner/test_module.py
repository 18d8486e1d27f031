"""What the RLModule computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from rllib_dapo import DAPOConfig
from rllib_dapo.core import MicroBatchPlan, PromptGroup, TrainResponse, collate, plan_minibatch
from rllib_dapo.learner.module import CausalLMModule
from rllib_dapo.models import load_causal_lm

LearnerConfig = Callable[..., DAPOConfig]
BuildModule = Callable[..., CausalLMModule]
MakeGroups = Callable[..., dict[int, PromptGroup]]
TrainResponses = Callable[..., list[TrainResponse]]
RandomModel = Callable[[PretrainedConfig, Path], Path]
PlainScores = Callable[..., tuple[Tensor, Tensor]]

TOKENS = {"vocab_size": 100, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SMALL = TOKENS | {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
LLAMA_LIKE = SMALL | {"intermediate_size": 64, "num_key_value_heads": 1}
# With factors far from 1: whoever forgets them is far off.
ADJUSTING = [
    Gemma2Config(
        **LLAMA_LIKE, head_dim=16, final_logit_softcapping=0.5, attn_logit_softcapping=None
    ),
    GraniteConfig(**LLAMA_LIKE, logits_scaling=3.0),
    CohereConfig(**LLAMA_LIKE, logit_scale=4.0),
]


def micro_batches(
    groups: dict[int, PromptGroup], responses: list[TrainResponse], **plan: int
) -> Iterator[dict]:
    settings = {
        "max_tokens_per_microbatch": 10_000,
        "max_response_tokens": 8,
        "loss_aggregation": "token_mean",
    }
    (plans,) = plan_minibatch(responses, **settings | plan)
    for micro in plans:
        yield micro, collate(micro, groups, pad_token_id=0)


@pytest.fixture(scope="session")
def largest_errors(plain_scores: PlainScores) -> Callable[..., tuple[float, float]]:
    """Largest differences of log-probability and entropy from those of a plain forward pass."""

    @torch.no_grad()
    def compare(
        module: CausalLMModule,
        model: PreTrainedModel,
        groups: dict[int, PromptGroup],
        responses: list[TrainResponse],
        **plan: int,
    ) -> tuple[float, float]:
        errors = []
        for micro, batch in micro_batches(groups, responses, **plan):
            output = module.forward_train(batch)
            for b, planned in enumerate(micro.responses):
                expected = plain_scores(model, groups[planned.group], planned.index)
                mask = torch.tensor(groups[planned.group].responses[planned.index].loss_mask)
                for name, values in zip(("logprobs", "entropy"), expected, strict=True):
                    got = output[name][b]
                    assert (got[: len(mask)][~mask] == 0).all()
                    assert (got[len(mask) :] == 0).all()
                    errors.append(float((got[: len(mask)] - values)[mask].abs().max()))
        return max(errors[0::2]), max(errors[1::2])

    return compare


# What it computes


@pytest.mark.parametrize(
    "plan", [{}, {"max_row_tokens": 24}, {"max_tokens_per_microbatch": 30}], ids=str
)
@pytest.mark.parametrize("logprob_chunk_tokens", [5, 2048])
def test_logprobs_and_entropies_are_those_of_a_plain_forward_pass(
    learner_config: LearnerConfig,
    build_module: BuildModule,
    make_groups: MakeGroups,
    train_responses: TrainResponses,
    raw_model: Path,
    largest_errors: Callable[..., tuple[float, float]],
    plan: dict[str, int],
    logprob_chunk_tokens: int,
) -> None:
    module = build_module(
        learner_config().language_model(logprob_chunk_tokens=logprob_chunk_tokens)
    )
    groups = make_groups()
    model = load_causal_lm(raw_model, dtype=torch.float32)
    errors = largest_errors(module, model, groups, train_responses(groups), **plan)
    assert max(errors) < 1e-5


@pytest.mark.parametrize("plan", [{}, {"max_row_tokens": 24}], ids=str)
@pytest.mark.parametrize("config", ADJUSTING, ids=lambda config: config.model_type)
def test_models_that_adjust_their_logits_are_asked_for_the_adjusted_ones(
    learner_config: LearnerConfig,
    build_module: BuildModule,
    make_groups: MakeGroups,
    train_responses: TrainResponses,
    random_model: RandomModel,
    largest_errors: Callable[..., tuple[float, float]],
    tmp_path: Path,
    config: PretrainedConfig,
    plan: dict[str, int],
) -> None:
    folder = random_model(config, tmp_path / "model")
    groups = make_groups(2)
    module = build_module(learner_config(folder))
    model = load_causal_lm(folder, dtype=torch.float32)
    errors = largest_errors(module, model, groups, train_responses(groups), **plan)
    assert max(errors) < 2e-5


def test_gradient_checkpointing_and_chunks_change_no_gradient(
    learner_config: LearnerConfig,
    build_module: BuildModule,
    make_groups: MakeGroups,
    train_responses: TrainResponses,
) -> None:
    groups = make_groups(2)
    ((_, batch),) = micro_batches(groups, train_responses(groups))

    def gradients(**settings: Any) -> list[Tensor]:
        module = build_module(learner_config().language_model(**settings))
        module.train()
        module.forward_train(batch)["logprobs"].sum().backward()
        return [parameter.grad for parameter in module.parameters()]

    plain = gradients()
    for other in (gradients(gradient_checkpointing=True), gradients(logprob_chunk_tokens=3)):
        for a, b in zip(plain, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_dropout_is_off_even_in_training_mode(
    learner_config: LearnerConfig,
    build_module: BuildModule,
    make_groups: MakeGroups,
    train_responses: TrainResponses,
    random_model: RandomModel,
    largest_errors: Callable[..., tuple[float, float]],
    tmp_path: Path,
) -> None:
    config = OPTConfig(
        **SMALL, ffn_dim=64, word_embed_proj_dim=32, dropout=0.5, attention_dropout=0.5
    )
    folder = random_model(config, tmp_path / "model")
    groups = make_groups(2)
    module = build_module(learner_config(folder))
    module.train()
    ((_, batch),) = micro_batches(groups, train_responses(groups))

    assert torch.equal(
        module.forward_train(batch)["logprobs"], module.forward_train(batch)["logprobs"]
    )

    model = load_causal_lm(folder, dtype=torch.float32).eval()
    assert max(largest_errors(module, model, groups, train_responses(groups))) < 2e-5


@pytest.mark.parametrize("model_config", [None, ADJUSTING[0]], ids=["llama", "gemma2"])
def test_an_empty_micro_batch_gives_every_weight_a_gradient_of_zero(
    learner_config: LearnerConfig,
    build_module: BuildModule,
    random_model: RandomModel,
    raw_model: Path,
    tmp_path: Path,
    model_config: PretrainedConfig | None,
) -> None:
    """So Learners with and without work take part in the same reduction of gradients."""
    folder = random_model(model_config, tmp_path / "model") if model_config else raw_model
    config = learner_config(folder).training(advantage_estimator="gae", entropy_coefficient=0.1)
    module = build_module(config)
    batch = collate(MicroBatchPlan(rows=(), weights=()), {}, pad_token_id=0)
    outputs = module.forward_train(batch)

    assert {name: tuple(tensor.shape) for name, tensor in outputs.items()} == {
        "logprobs": (0, 0),
        "entropy": (0, 0),
        "values": (0, 0),
    }

    sum(tensor.sum() for tensor in outputs.values()).backward()

    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_settings_are_changed_for_a_while_alone(
    learner_config: LearnerConfig,
    build_module: BuildModule,
    make_groups: MakeGroups,
    train_responses: TrainResponses,
    plain_scores: PlainScores,
    raw_model: Path,
) -> None:
    module, groups = build_module(learner_config()), make_groups(1)
    ((micro, batch),) = micro_batches(groups, train_responses(groups))
    model, before = load_causal_lm(raw_model, dtype=torch.float32), module.settings
    with module.settings_changed(temperature=1.0):
        logprobs = module.forward_train(batch)["logprobs"]

    assert module.settings == before
    with pytest.raises(KeyError), module.settings_changed(temperature=2.0):
        module.forward_train({})
    assert module.settings == before

    for row, planned in zip(logprobs, micro.responses, strict=True):
        expected, _ = plain_scores(model, groups[0], planned.index, temperature=1.0)
        mask = torch.tensor(groups[0].responses[planned.index].loss_mask)
        torch.testing.assert_close(row[: len(mask)][mask], expected[mask], rtol=0, atol=1e-5)


def test_bfloat16_rounds_the_computation_and_not_the_weights(
    learner_config: LearnerConfig,
    build_module: BuildModule,
    make_groups: MakeGroups,
    train_responses: TrainResponses,
    largest_errors: Callable[..., tuple[float, float]],
    raw_model: Path,
) -> None:
    module = build_module(learner_config().language_model(dtype="bfloat16"))
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    groups = make_groups()
    model = load_causal_lm(raw_model, dtype=torch.float32)
    error, _ = largest_errors(module, model, groups, train_responses(groups))
    assert 1e-4 < error < 0.5
