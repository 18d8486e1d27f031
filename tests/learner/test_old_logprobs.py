"""What is computed under the old policy, and for which mini-batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.training_data import GroupTrainingData

LearnerConfig = Callable[..., DAPOConfig]
MakeTrainer = Callable[[DAPOConfig], Any]
Data = Callable[..., GroupTrainingData]
ByResponse = Callable[..., dict[tuple[int, int], Tensor]]
Change = Callable[[DAPOConfig], DAPOConfig]


@pytest.mark.parametrize(
    ("change", "scored", "referred"),
    [
        # the first mini-batch's old policy is the one that it trains
        (lambda c: c, 2, 0),
        (lambda c: c.training(old_logprobs="sampler"), 0, 0),
        (lambda c: c.training(entropy_mask_fraction=0.2), 3, 0),
        (lambda c: c.training(entropy_mask_fraction=0.2, old_logprobs="sampler"), 3, 0),
        (lambda c: c.training(token_mask=lambda **tensors: tensors["mask"]), 3, 0),
        (lambda c: c.training(advantage_estimator="gae"), 3, 0),
        (lambda c: c.kl(coefficient=0.1), 2, 3),
        (lambda c: c.kl(coefficient=0.1).training(old_logprobs="sampler"), 0, 3),
        (lambda c: c.kl(coefficient=0.1, placement="reward"), 3, 3),
        (lambda c: c.kl(coefficient=0.0, placement="reward"), 2, 0),
    ],
    ids=[
        "trainer",
        "sampler",
        "entropy mask",
        "entropy mask, sampler",
        "token mask",
        "critic",
        "kl in the loss",
        "kl in the loss, sampler",
        "kl in the reward",
        "no kl in the reward",
    ],
)
def test_every_forward_pass_is_needed_by_something(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    change: Change,
    scored: int,
    referred: int,
) -> None:
    """Three mini-batches of one micro-batch; `update` makes the same passes before it trains."""
    trainer, references = make_trainer(change(config)), []
    trainer.prepared(make_data(minibatches=3), references=references)
    assert trainer.learner.passes == ["score"] * scored
    assert len(references) == referred
    trainer.learner.passes.clear()
    trainer.update(make_data(minibatches=3))
    assert trainer.learner.passes == ["score"] * scored + ["train"] * 3


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c,
        lambda c: c.training(entropy_mask_fraction=0.2),
        lambda c: c.training(advantage_estimator="gae"),
        lambda c: c.kl(coefficient=0.1, placement="reward"),
    ],
    ids=["plain", "entropy mask", "critic", "kl in the reward"],
)
@pytest.mark.parametrize("source", ["trainer", "sampler"])
def test_the_ratios_denominator_is_the_samplers_throughout_or_the_trainers_throughout(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data, change: Change, source: str
) -> None:
    trainer = make_trainer(change(config.training(old_logprobs=source)))
    batches = trainer.prepared_batches(make_data(minibatches=3))
    for batch in batches:
        if source == "sampler":
            assert torch.equal(batch["old_logprobs"], batch["sampler_logprobs"])
        elif "policy_logprobs" in batch:
            assert torch.equal(batch["old_logprobs"], batch["policy_logprobs"])
            assert not torch.allclose(batch["old_logprobs"], batch["sampler_logprobs"].double())
        else:
            assert batch is batches[0]
            assert "old_logprobs" not in batch


@pytest.mark.parametrize("placement", ["loss", "reward"])
def test_nothing_that_is_prepared_has_a_gradient(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data, placement: str
) -> None:
    config.training(advantage_estimator="gae", entropy_mask_fraction=0.5).kl(
        coefficient=0.1, placement=placement
    )
    for batch in make_trainer(config).prepared_batches(make_data(minibatches=2)):
        made = {
            "old_logprobs",
            "old_values",
            "old_entropy",
            "ref_logprobs",
            "advantages",
            "returns",
            "token_mask",
        }
        assert made <= batch.keys()
        assert not any(tensor.requires_grad for tensor in batch.values())
