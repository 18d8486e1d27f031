"""How far sampler and trainer are apart, and what it is put down to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup, SamplingSet
from rllib_dapo.learner.logprob_gap import GapReport, measure_gap
from rllib_dapo.learner.training_data import GroupTrainingData
from rllib_dapo.models import load_causal_lm
from rllib_dapo.start_guard import describe_gap

LearnerConfig = Callable[..., DAPOConfig]
MakeTrainer = Callable[[DAPOConfig], Any]
MakeGroups = Callable[..., dict[int, PromptGroup]]
SampledBy = Callable[..., dict[int, PromptGroup]]
Measure = Callable[..., GapReport]


@pytest.fixture
def measure(make_trainer: MakeTrainer, make_data: Callable[..., GroupTrainingData]) -> Measure:
    """What a Learner says of responses that come from an engine."""

    def of(config: DAPOConfig, groups: dict[int, PromptGroup], **plan: int) -> GapReport:
        return make_trainer(config).learner.measure_sampler_gap(
            [make_data(groups=groups, plan=plan)]
        )

    return of


def cause(report: GapReport, config: DAPOConfig) -> str:
    line = describe_gap(report, config, prompt_ids=[1, 22, 16], bos_token_id=1)
    assert "\n" not in line
    return line.partition("probable cause: ")[2]


def test_an_engine_with_the_same_weights_and_temperature_leaves_no_gap(
    measure: Measure,
    learner_config: LearnerConfig,
    make_groups: MakeGroups,
    sampled_by: SampledBy,
    raw_model: Path,
) -> None:
    groups = sampled_by(load_causal_lm(raw_model, dtype=torch.float32), make_groups())
    report = measure(learner_config(), groups)
    assert report.tokens == sum(
        int(r.loss_mask.sum()) for group in groups.values() for r in group.responses
    )
    assert report.mean < report.largest < 1e-4
    assert report.at_temperature_one > 0.1
    assert report.in_float32 is None


def test_an_engine_that_reports_raw_logprobs_is_found_out(
    measure: Measure,
    learner_config: LearnerConfig,
    make_groups: MakeGroups,
    sampled_by: SampledBy,
    raw_model: Path,
) -> None:
    model = load_causal_lm(raw_model, dtype=torch.float32)
    report = measure(learner_config(), sampled_by(model, make_groups(), temperature=1.0))
    assert report.mean > 0.1
    assert report.at_temperature_one < 1e-4
    assert cause(report, learner_config()).startswith(
        "raw log-probabilities: the engine reports them as before rollout.temperature=0.7; "
        "take logprobs_mode out"
    )


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_an_engine_with_other_weights_is_found_out(
    measure: Measure,
    learner_config: LearnerConfig,
    make_groups: MakeGroups,
    sampled_by: SampledBy,
    other_raw_model: Path,
    temperature: float,
) -> None:
    config = learner_config().rollout(temperature=temperature)
    other = load_causal_lm(other_raw_model, dtype=torch.float32)
    report = measure(config, sampled_by(other, make_groups(), temperature=temperature))
    assert report.mean > 0.1
    assert report.at_temperature_one > 0.5 * report.mean
    assert cause(report, config).startswith("weights: the engine's are not the Learner's")


def test_a_gap_of_rounding_alone_is_put_down_to_the_type(
    measure: Measure,
    learner_config: LearnerConfig,
    make_groups: MakeGroups,
    sampled_by: SampledBy,
    raw_model: Path,
) -> None:
    """The sampler here is exact, the Learner computes in bfloat16."""
    config = learner_config().language_model(dtype="bfloat16")
    report = measure(
        config, sampled_by(load_causal_lm(raw_model, dtype=torch.float32), make_groups())
    )
    assert 1e-4 < report.mean < 0.1
    assert report.in_float32 is not None
    assert report.in_float32 < 1e-4
    assert cause(report, config).startswith(
        "language_model.dtype=bfloat16: in float32 the gap would be "
    )


def test_mean_and_largest_gap_by_hand_and_for_any_cut(
    measure: Measure,
    learner_config: LearnerConfig,
    make_groups: MakeGroups,
    sampled_by: SampledBy,
    raw_model: Path,
) -> None:
    """One response is off by 2 nats at each token, another by 100 at its tokens without loss."""
    groups = sampled_by(load_causal_lm(raw_model, dtype=torch.float32), make_groups())

    def off_by(key: int, i: int, nats: np.ndarray) -> None:
        responses = list(groups[key].responses)
        responses[i] = replace(
            responses[i], logprobs=(responses[i].logprobs - nats).astype(np.float32)
        )
        groups[key] = replace(groups[key], responses=tuple(responses))

    masks = {
        (key, i): r.loss_mask
        for key, group in groups.items()
        for i, r in enumerate(group.responses)
    }
    partly = next(place for place, mask in masks.items() if place != (1, 2) and not mask.all())
    off_by(1, 2, np.full(len(masks[1, 2]), 2.0))
    off_by(*partly, np.where(masks[partly], 0.0, 100.0))
    tokens = sum(int(mask.sum()) for mask in masks.values())
    for plan in ({}, {"max_tokens_per_microbatch": 30}, {"max_row_tokens": 20}):
        report = measure(learner_config(), groups, **plan)
        assert report.mean == pytest.approx(2.0 * int(masks[1, 2].sum()) / tokens, abs=1e-4)
        assert report.largest == pytest.approx(2.0, abs=1e-4)


def test_measuring_leaves_the_learner_as_it_was(
    make_trainer: MakeTrainer,
    learner_config: LearnerConfig,
    make_data: Callable[..., GroupTrainingData],
) -> None:
    trainer = make_trainer(learner_config())
    before, settings = trainer.weights(), trainer.module.settings
    trainer.learner.measure_sampler_gap([make_data(plan={"max_tokens_per_microbatch": 40})])
    assert trainer.has_weights(before)
    assert trainer.module.settings == settings
    assert all(parameter.grad is None for parameter in trainer.module.parameters())


def test_an_edge_of_a_set_is_no_fault_and_another_set_is(
    make_trainer: MakeTrainer,
    make_data: Callable[..., GroupTrainingData],
    make_groups: MakeGroups,
    learner_config: LearnerConfig,
) -> None:
    """The sampler here has cut its set one token earlier than the Learner does, or five."""
    trainer = make_trainer(learner_config().rollout(sampling={"top_k": 10}))
    groups = make_groups()

    def report(top_k: int) -> GapReport:
        with trainer.module.settings_changed(sampling_set=SamplingSet(top_k=top_k)):
            data = make_data(groups=groups)
            ((plan,),) = data.shards
            batches = [batch.tensors() for batch in trainer.learner.plan_batches(plan, data)]
            theirs = [trainer.learner.forward_micro_batch(batch)["logprobs"] for batch in batches]

        for batch, logprobs in zip(batches, theirs, strict=True):
            batch["sampler_logprobs"] = logprobs.detach()
        return measure_gap(batches, trainer.module, trainer.learner.forward_micro_batch)

    with torch.no_grad():
        assert report(10).largest == 0.0
        assert report(9).largest == 0.0
        assert report(5).mean > 0.01
