"""Updates: which gradient is taken, and which figures are reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rllib_dapo import DAPOConfig
from rllib_dapo.core import LOSS_AGGREGATIONS
from rllib_dapo.core.batching import MicroBatchPlan
from rllib_dapo.learner.training_data import GroupTrainingData
from rllib_dapo.metrics.metric_table import METRICS
from rllib_dapo.models import load_causal_lm

LearnerConfig = Callable[..., DAPOConfig]
MakeTrainer = Callable[[DAPOConfig], Any]
Data = Callable[..., GroupTrainingData]
PlainScores = Callable[..., tuple[Tensor, Tensor]]

REPORTED = {metric.name for metric in METRICS if metric.source == "learners/default_policy"}
# Reported only where the configuration has what they are about.
CONDITIONAL = {
    "kl",
    "importance_capped_fraction",
    "masked_response_fraction",
    "masked_token_fraction",
    "objective_figures/*",
    "value_loss",
    "value_clip_fraction",
    "explained_variance",
}


def everything(config: DAPOConfig) -> DAPOConfig:
    """A value model, a reference, an entropy bonus and mask, importance weights and bounds."""
    return (
        config.training(
            advantage_estimator="gae", entropy_coefficient=0.01, entropy_mask_fraction=0.5
        )
        .kl(coefficient=0.1)
        .importance_sampling(cap=2.0, sequence_bounds=(0.1, 10.0), token_bounds=(0.5, 5.0))
    )


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


# The gradient


def test_an_update_changes_every_weight_and_raises_its_number(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data
) -> None:
    trainer = make_trainer(learner_config())
    before = trainer.weights()
    metrics = trainer.update(make_data())
    after = trainer.weights()
    assert not any(np.array_equal(after[name], array) for name, array in before.items())
    assert (
        metrics["gradient_updates"]
        == metrics["weights_seq_no"]
        == trainer.learner.weights_version
        == 1
    )


@pytest.mark.parametrize(
    "plan",
    [
        {"max_tokens_per_microbatch": 40},
        {"max_tokens_per_microbatch": 1},
        {"max_row_tokens": 1000},
        {"max_row_tokens": 20, "max_tokens_per_microbatch": 40},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "loss_aggregation", sorted(set(LOSS_AGGREGATIONS) - {"microbatch_token_mean"})
)
def test_the_gradient_does_not_depend_on_how_a_minibatch_is_cut_and_packed(
    make_trainer: MakeTrainer,
    learner_config: LearnerConfig,
    make_data: Data,
    loss_aggregation: str,
    plan: dict[str, int],
) -> None:
    whole, cut = (make_trainer(learner_config().training(grad_clip=None)) for _ in range(2))
    whole_metrics = whole.update(make_data(plan={"loss_aggregation": loss_aggregation}))
    cut_metrics = cut.update(make_data(plan={"loss_aggregation": loss_aggregation, **plan}))
    assert len(whole.learner.losses) == 1
    assert len(cut.learner.losses) > 1 or plan == {"max_row_tokens": 1000}
    assert distance(cut.learner.gradients[0], whole.learner.gradients[0]) < 1e-5
    assert whole_metrics == pytest.approx(cut_metrics, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("placement", ["loss", "reward"])
def test_nor_does_it_with_every_term_of_the_objective(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data, placement: str
) -> None:
    def updated(plan: dict[str, int]) -> tuple[Any, dict[str, float]]:
        config = (
            everything(learner_config()).language_model(dtype="float64").kl(placement=placement)
        )
        trainer = make_trainer(config.training(grad_clip=None, lr=1e-3))
        trainer.shake()
        return trainer.learner, trainer.update(make_data(minibatches=2, plan=plan))

    whole, whole_metrics = updated({})
    cut, cut_metrics = updated({"max_tokens_per_microbatch": 30, "max_row_tokens": 20})
    assert len(cut.losses) > len(whole.losses) == 2
    for found, expected in zip(cut.gradients, whole.gradients, strict=True):
        assert (
            distance(found, expected) < 1e-6
        )  # the model's norms round to float32 even in float64
    assert whole_metrics == pytest.approx(cut_metrics, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(
    "settings", [lambda config: config, everything], ids=["dapo", "everything"]
)
def test_an_empty_micro_batch_changes_nothing(
    make_trainer: MakeTrainer,
    learner_config: LearnerConfig,
    make_data: Data,
    settings: Callable[[DAPOConfig], DAPOConfig],
) -> None:
    """A Learner without work runs one in step with the others."""
    nothing = MicroBatchPlan(rows=(), weights=())

    def updated(*extra: MicroBatchPlan) -> tuple[Any, dict[str, float]]:
        trainer, data = make_trainer(settings(learner_config())), make_data(minibatches=2)
        data.shards = [[(*extra, *plan, *extra) for plan in data.shards[0]]]
        return trainer.learner, trainer.update(data)

    plain, expected = updated()
    padded, found = updated(nothing)
    assert len(padded.losses) == len(plain.losses) + 4
    for gradient, other in zip(padded.gradients, plain.gradients, strict=True):
        assert torch.equal(gradient, other)
    assert found == expected


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-7)])
def test_the_gradient_is_that_of_the_loss_written_out(
    make_trainer: MakeTrainer,
    learner_config: LearnerConfig,
    make_data: Data,
    plain_scores: PlainScores,
    raw_model: Path,
    dtype: str,
    tolerance: float,
) -> None:
    """On the first mini-batch the ratio is 1, and the loss is -advantage * log-probability."""
    trainer = make_trainer(learner_config().language_model(dtype=dtype).training(grad_clip=None))
    data = make_data()
    trainer.update(data)
    model = load_causal_lm(raw_model, dtype=getattr(torch, dtype))
    responses = [r for micro in data.shards[0][0] for r in micro.responses]
    loss = 0.0
    for planned in responses:
        logprobs, _ = plain_scores(model, data.groups[planned.group], planned.index)
        mask = torch.tensor(data.groups[planned.group].responses[planned.index].loss_mask)
        loss = loss - planned.advantage * logprobs[mask].sum() / sum(
            r.loss_tokens for r in responses
        )
    loss.backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    (gradient,) = trainer.learner.gradients

    assert gradient.dtype == expected.dtype
    assert distance(gradient, expected) < tolerance


# The ratio


def test_the_first_minibatchs_ratio_is_exactly_one(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data
) -> None:
    metrics = make_trainer(learner_config()).update(
        make_data(plan={"max_tokens_per_microbatch": 40})
    )
    assert metrics["ratio_mean"] == metrics["ratio_max"] == 1.0
    assert metrics["clip_fraction_low"] == metrics["clip_fraction_high"] == 0.0


def test_the_trainers_old_logprobs_are_those_before_the_update(
    make_trainer: MakeTrainer,
    learner_config: LearnerConfig,
    make_data: Data,
    plain_scores: PlainScores,
    raw_model: Path,
) -> None:
    trainer, data = make_trainer(learner_config()), make_data(minibatches=3)
    metrics = trainer.update(data)
    first, *later = trainer.learner.losses

    assert "old_logprobs" not in first

    model = load_causal_lm(raw_model, dtype=torch.float32)
    for batch, (micro,) in zip(later, data.shards[0][1:], strict=True):
        expected = [
            plain_scores(model, data.groups[r.group], r.index)[0].detach() for r in micro.responses
        ]
        old = [
            row[: len(values)] for row, values in zip(batch["old_logprobs"], expected, strict=True)
        ]
        mask = torch.cat(
            [row[: len(values)] for row, values in zip(batch["mask"], expected, strict=True)]
        )
        torch.testing.assert_close(
            torch.cat(old)[mask], torch.cat(expected)[mask], rtol=0, atol=1e-5
        )
        assert not torch.allclose(batch["old_logprobs"], batch["logprobs"], atol=1e-3)

    assert metrics["ratio_max"] > 1.01


def test_the_samplers_old_logprobs_are_what_the_engine_reported(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data
) -> None:
    trainer = make_trainer(learner_config().training(old_logprobs="sampler"))
    metrics = trainer.update(make_data(minibatches=2))
    seen = trainer.learner.losses

    assert [torch.equal(batch["old_logprobs"], batch["sampler_logprobs"]) for batch in seen] == [
        True,
        True,
    ]

    ratios = torch.cat(
        [(b["logprobs"] - b["sampler_logprobs"]).clamp(-20, 20).exp()[b["mask"]] for b in seen]
    )

    assert metrics["ratio_mean"] == pytest.approx(float(ratios.mean()), rel=1e-5)
    assert metrics["ratio_max"] == pytest.approx(float(ratios.max()), rel=1e-5)


@pytest.mark.parametrize(("old_logprobs", "minibatches_compared"), [("trainer", 2), ("sampler", 1)])
def test_the_gap_to_the_sampler_is_measured_under_the_weights_that_sampled(
    make_trainer: MakeTrainer,
    learner_config: LearnerConfig,
    make_data: Data,
    plain_scores: PlainScores,
    raw_model: Path,
    old_logprobs: str,
    minibatches_compared: int,
) -> None:
    data = make_data(minibatches=2)
    metrics = make_trainer(learner_config().training(old_logprobs=old_logprobs)).update(data)
    model = load_causal_lm(raw_model, dtype=torch.float32)
    gaps = []
    for (micro,) in data.shards[0][:minibatches_compared]:
        for planned in micro.responses:
            response = data.groups[planned.group].responses[planned.index]
            with torch.no_grad():
                logprobs, _ = plain_scores(model, data.groups[planned.group], planned.index)
            gaps.append(
                (logprobs - torch.tensor(response.logprobs)).abs()[torch.tensor(response.loss_mask)]
            )

    assert metrics["sampler_logprob_gap_mean"] == pytest.approx(
        float(torch.cat(gaps).mean()), rel=1e-4
    )
    assert metrics["sampler_logprob_gap_max"] == pytest.approx(
        float(torch.cat(gaps).max()), rel=1e-4
    )


def test_tokens_outside_the_clip_range_are_counted_by_side(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data
) -> None:
    """The sampler's probabilities are made up, so nearly every ratio is out of range."""
    trainer = make_trainer(learner_config().training(old_logprobs="sampler", grad_clip=None))
    metrics = trainer.update(make_data())
    (batch,) = trainer.learner.losses
    mask, advantages = batch["mask"], batch["advantages"][:, None].expand(batch["mask"].shape)
    ratio = (batch["logprobs"] - batch["old_logprobs"]).exp()
    low, high = mask & (advantages < 0) & (ratio < 0.8), mask & (advantages > 0) & (ratio > 1.28)
    assert metrics["clip_fraction_low"] == pytest.approx(int(low.sum()) / int(mask.sum()))
    assert metrics["clip_fraction_high"] == pytest.approx(int(high.sum()) / int(mask.sum()))
    assert metrics["clip_fraction_low"] > 0
    assert metrics["clip_fraction_high"] > 0


# Metrics


def test_every_metric_of_the_table_is_reported_where_it_applies(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data
) -> None:
    plain = make_trainer(learner_config()).update(make_data(minibatches=2))
    assert plain.keys() >= REPORTED - CONDITIONAL
    assert not CONDITIONAL & plain.keys()
    full = make_trainer(everything(learner_config())).update(make_data(minibatches=2))
    assert full.keys() >= REPORTED - {"objective_figures/*"}
    assert all(
        np.isfinite(metrics[name])
        for metrics in (plain, full)
        for name in REPORTED & metrics.keys()
    )


def test_metrics_are_means_over_all_tokens_of_the_update(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data
) -> None:
    data = make_data(minibatches=2, plan={"max_tokens_per_microbatch": 40})
    trainer = make_trainer(learner_config())
    metrics = trainer.update(data)
    seen = trainer.learner.losses

    assert len(seen) > 2

    tokens = sum(int(r.loss_mask.sum()) for group in data.groups.values() for r in group.responses)
    assert metrics["trained_tokens"] == tokens
    assert metrics["trained_token_fraction"] == 1.0
    assert metrics["num_module_steps_trained"] == 16

    for name, values in (
        ("mean_token_probability", [b["logprobs"].exp() for b in seen]),
        ("entropy", None),
    ):
        values = values or [batch["entropy"] for batch in seen]
        expected = torch.cat(
            [v[batch["mask"]] for v, batch in zip(values, seen, strict=True)]
        ).mean()
        assert metrics[name] == pytest.approx(float(expected), rel=1e-5)

    assert metrics["policy_loss"] == pytest.approx(
        sum(float(batch["loss"]) for batch in seen) / 2, abs=1e-6
    )
    assert metrics["total_loss"] == pytest.approx(metrics["policy_loss"], abs=1e-6)


def test_the_policy_loss_is_told_apart_from_what_else_is_minimized(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data
) -> None:
    config = learner_config().training(advantage_estimator="gae").critic(value_loss_coefficient=0.5)
    trainer = make_trainer(config)
    metrics = trainer.update(make_data(minibatches=2))
    assert metrics["total_loss"] == pytest.approx(
        sum(float(b["loss"]) for b in trainer.learner.losses) / 2, abs=1e-6
    )
    assert metrics["value_loss"] > 0
    rest = metrics["total_loss"] - metrics["policy_loss"]
    assert rest == pytest.approx(0.5 * metrics["value_loss"], abs=1e-6)


def test_an_updates_metrics_are_its_own(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data
) -> None:
    trainer = make_trainer(learner_config().training(lr=1e-9))
    first, second = (trainer.update(make_data(minibatches=2)) for _ in range(2))
    assert (first["weights_seq_no"], second["weights_seq_no"]) == (1, 2)
    for name in ("entropy", "policy_loss", "trained_tokens", "gradient_norm", "gradient_updates"):
        assert second[name] == pytest.approx(first[name], rel=1e-3, abs=1e-6)
