"""Updates: which gradient is taken, which step is made of it, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner_group import LearnerGroup
from torch import Tensor

from rllib_dapo import DAPOConfig
from rllib_dapo.core import LOSS_AGGREGATIONS, PromptGroup, TrainResponse, plan_minibatch
from rllib_dapo.core.batching import split_evenly
from rllib_dapo.envs import TextSpace
from rllib_dapo.learner.learner import DAPOTorchLearner
from rllib_dapo.learner.training_data import GroupTrainingData
from rllib_dapo.metrics import METRICS
from rllib_dapo.models import load_causal_lm

LearnerConfig = Callable[..., DAPOConfig]
Data = Callable[..., GroupTrainingData]


class Witness(DAPOTorchLearner):
    """Keeps what the loss was given, and the learning rate of every step."""

    def build(self) -> None:
        super().build()
        self.losses: list[dict[str, Tensor]] = []
        self.rates: list[float] = []

    def compute_loss_for_module(
        self, *, module_id: str, config: DAPOConfig, batch: dict[str, Tensor], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        self.losses.append({**batch, "logprobs": fwd_out["logprobs"].detach()})
        return super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)

    def _step(self, module_id: str, optimizer: torch.optim.Optimizer, *, lr: float) -> None:
        super()._step(module_id, optimizer, lr=lr)
        self.rates.append(optimizer.param_groups[0]["lr"])


def learners(config: DAPOConfig) -> LearnerGroup:
    config.validate()
    config = config.training(learner_class=Witness)
    return config.build_learner_group(spaces={DEFAULT_MODULE_ID: (TextSpace(100), TextSpace(100))})


@pytest.fixture(scope="session")
def make_data(
    make_groups: Callable[..., dict[int, PromptGroup]], train_responses: Callable[..., list[TrainResponse]]
) -> Data:
    """Makes training data for one Learner from four made-up groups, in one mini-batch or more."""

    def make(minibatches: int = 1, *, plan: dict[str, Any] | None = None, **fields: Any) -> GroupTrainingData:
        groups = make_groups()
        settings = {"loss_aggregation": "token_mean", "max_response_tokens": 8, "max_tokens_per_microbatch": 10_000}
        parts = split_evenly(train_responses(groups, **fields), minibatches)
        plans = [plan_minibatch(part, **settings | (plan or {})) for part in parts]
        return GroupTrainingData(groups=groups, shards=list(zip(*plans, strict=True)))

    return make


def update(group: LearnerGroup, data: GroupTrainingData) -> dict[str, float]:
    """One update; its metrics as plain numbers."""
    (result,) = group.update(training_data=data, timesteps={"num_env_steps_sampled_lifetime": 0})
    return {name: float(stats.peek()) for name, stats in result[DEFAULT_MODULE_ID].items()}


def witness(group: LearnerGroup) -> Witness:
    return group._learner


def parameters(group: LearnerGroup) -> Iterator[torch.nn.Parameter]:
    return witness(group).module[DEFAULT_MODULE_ID].parameters()


def weights(group: LearnerGroup) -> dict[str, np.ndarray]:
    return group.get_weights()[DEFAULT_MODULE_ID]


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(array, b[name]) for name, array in a.items())


def gradients(group: LearnerGroup) -> Tensor:
    """The gradient of the last mini-batch, in one vector; clipped, if the configuration clips."""
    return torch.cat([parameter.grad.flatten() for parameter in parameters(group)])


# The gradient


def test_an_update_changes_every_weight_and_raises_its_number(learner_config: LearnerConfig, make_data: Data) -> None:
    group = learners(learner_config())
    before = weights(group)
    metrics = update(group, make_data())
    after = weights(group)
    assert not any(np.array_equal(after[name], array) for name, array in before.items())
    assert metrics["gradient_updates"] == metrics["weights_seq_no"] == 1


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
@pytest.mark.parametrize("loss_aggregation", sorted(set(LOSS_AGGREGATIONS) - {"microbatch_token_mean"}))
def test_the_gradient_does_not_depend_on_how_a_minibatch_is_cut_and_packed(
    learner_config: LearnerConfig, make_data: Data, loss_aggregation: str, plan: dict[str, int]
) -> None:
    whole, cut = (
        learners(learner_config().training(grad_clip=None)),
        learners(learner_config().training(grad_clip=None)),
    )
    whole_metrics = update(whole, make_data(plan={"loss_aggregation": loss_aggregation}))
    cut_metrics = update(cut, make_data(plan={"loss_aggregation": loss_aggregation, **plan}))
    assert len(witness(whole).losses) == 1
    assert len(witness(cut).losses) > 1 or plan == {"max_row_tokens": 1000}
    expected = gradients(whole)
    assert float((gradients(cut) - expected).norm() / expected.norm()) < 1e-5
    assert whole_metrics == pytest.approx(cut_metrics, rel=1e-4, abs=1e-6)


def test_the_gradient_is_that_of_the_loss_written_out(
    learner_config: LearnerConfig, make_data: Data, raw_model: Path
) -> None:
    """On the first mini-batch the ratio is 1: minus the advantage times the gradient of the log-probability."""
    group, data = learners(learner_config().training(grad_clip=None)), make_data()
    update(group, data)
    model = load_causal_lm(raw_model, dtype=torch.float32)
    responses = [r for micro in data.shards[0][0] for r in micro.responses]
    loss = 0.0
    for planned in responses:
        logprobs = plain_logprobs(model, data.groups[planned.group], planned.index)
        mask = torch.tensor(data.groups[planned.group].responses[planned.index].loss_mask)
        loss = loss - planned.advantage * logprobs[mask].sum() / sum(r.loss_tokens for r in responses)
    loss.backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    assert float((gradients(group) - expected).norm() / expected.norm()) < 1e-5


def plain_logprobs(model: Any, group: PromptGroup, index: int) -> Tensor:
    """`[T]` log-probabilities of a response at temperature 0.7, from one sequence and nothing of ours."""
    prompt, response = (
        torch.tensor(ids.astype(np.int64)) for ids in (group.prompt_ids, group.responses[index].token_ids)
    )
    logits = model(torch.cat([prompt, response])[None]).logits[0, len(prompt) - 1 : -1]
    return (logits / 0.7).log_softmax(-1).gather(-1, response[:, None]).squeeze(-1)


# The ratio


def test_the_first_minibatchs_ratio_is_exactly_one(learner_config: LearnerConfig, make_data: Data) -> None:
    metrics = update(learners(learner_config()), make_data(plan={"max_tokens_per_microbatch": 40}))
    assert metrics["ratio_mean"] == metrics["ratio_max"] == 1.0
    assert metrics["clip_fraction_low"] == metrics["clip_fraction_high"] == 0.0


def test_the_trainers_old_logprobs_are_those_before_the_update(
    learner_config: LearnerConfig, make_data: Data, raw_model: Path
) -> None:
    group, data = learners(learner_config()), make_data(minibatches=3)
    metrics = update(group, data)
    first, *later = witness(group).losses
    assert "old_logprobs" not in first
    model = load_causal_lm(raw_model, dtype=torch.float32)
    for batch, (micro,) in zip(later, data.shards[0][1:], strict=True):
        expected = [plain_logprobs(model, data.groups[r.group], r.index).detach() for r in micro.responses]
        old = [row[: len(values)] for row, values in zip(batch["old_logprobs"], expected, strict=True)]
        mask = torch.cat([row[: len(values)] for row, values in zip(batch["mask"], expected, strict=True)])
        torch.testing.assert_close(torch.cat(old)[mask], torch.cat(expected)[mask], rtol=0, atol=1e-5)
        assert not torch.allclose(batch["old_logprobs"], batch["logprobs"], atol=1e-3)
    assert metrics["ratio_max"] > 1.01


def test_the_samplers_old_logprobs_are_what_the_engine_reported(learner_config: LearnerConfig, make_data: Data) -> None:
    group = learners(learner_config().training(old_logprobs="sampler"))
    metrics = update(group, make_data(minibatches=2))
    seen = witness(group).losses
    assert [torch.equal(batch["old_logprobs"], batch["sampler_logprobs"]) for batch in seen] == [True, True]
    ratios = torch.cat([(b["logprobs"] - b["sampler_logprobs"]).clamp(-20, 20).exp()[b["mask"]] for b in seen])
    assert metrics["ratio_mean"] == pytest.approx(float(ratios.mean()), rel=1e-5)
    assert metrics["ratio_max"] == pytest.approx(float(ratios.max()), rel=1e-5)


@pytest.mark.parametrize(("old_logprobs", "minibatches_compared"), [("trainer", 2), ("sampler", 1)])
def test_the_gap_to_the_sampler_is_measured_under_the_weights_that_sampled(
    learner_config: LearnerConfig, make_data: Data, raw_model: Path, old_logprobs: str, minibatches_compared: int
) -> None:
    data = make_data(minibatches=2)
    metrics = update(learners(learner_config().training(old_logprobs=old_logprobs)), data)
    model = load_causal_lm(raw_model, dtype=torch.float32)
    gaps = []
    for (micro,) in data.shards[0][:minibatches_compared]:
        for planned in micro.responses:
            response = data.groups[planned.group].responses[planned.index]
            with torch.no_grad():
                logprobs = plain_logprobs(model, data.groups[planned.group], planned.index)
            gaps.append((logprobs - torch.tensor(response.logprobs)).abs()[torch.tensor(response.loss_mask)])
    assert metrics["sampler_logprob_gap_mean"] == pytest.approx(float(torch.cat(gaps).mean()), rel=1e-4)
    assert metrics["sampler_logprob_gap_max"] == pytest.approx(float(torch.cat(gaps).max()), rel=1e-4)


def test_tokens_outside_the_clip_range_are_counted_by_side(learner_config: LearnerConfig, make_data: Data) -> None:
    """The made-up sampler gave tokens e-3 to e-6, the model other ones: nearly every ratio is out of range."""
    group = learners(learner_config().training(old_logprobs="sampler", grad_clip=None))
    metrics = update(group, make_data())
    (batch,) = witness(group).losses
    mask, advantages = batch["mask"], batch["advantages"][:, None].expand(batch["mask"].shape)
    ratio = (batch["logprobs"] - batch["old_logprobs"]).exp()
    low, high = mask & (advantages < 0) & (ratio < 0.8), mask & (advantages > 0) & (ratio > 1.28)
    assert metrics["clip_fraction_low"] == pytest.approx(int(low.sum()) / int(mask.sum()))
    assert metrics["clip_fraction_high"] == pytest.approx(int(high.sum()) / int(mask.sum()))
    assert metrics["clip_fraction_low"] > 0
    assert metrics["clip_fraction_high"] > 0


# The step


@pytest.mark.parametrize("advantage", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_left_out_and_counted(
    learner_config: LearnerConfig, make_data: Data, advantage: float
) -> None:
    group = learners(learner_config())
    before = weights(group)
    metrics = update(group, make_data(advantage=advantage))
    assert (metrics["skipped_updates"], metrics["gradient_updates"]) == (1, 0)
    assert metrics["num_gradient_updates_lifetime"] == 0
    assert same(weights(group), before)
    metrics = update(group, make_data())
    assert (metrics["skipped_updates"], metrics["gradient_updates"]) == (0, 1)
    assert all(np.isfinite(array).all() for array in weights(group).values())
    assert not same(weights(group), before)


def test_the_learning_rate_warms_up_over_training_steps_and_stays(
    learner_config: LearnerConfig, make_data: Data
) -> None:
    group = learners(learner_config().training(lr=0.1, warmup_steps=2))
    for _ in range(3):
        update(group, make_data(minibatches=2))
    assert witness(group).rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_the_gradient_is_clipped_by_its_global_norm(learner_config: LearnerConfig, make_data: Data) -> None:
    free, clipped = (
        learners(learner_config().training(grad_clip=None)),
        learners(learner_config().training(grad_clip=0.01)),
    )
    free_metrics, clipped_metrics = update(free, make_data()), update(clipped, make_data())
    norm = float(gradients(free).norm())
    assert norm > 0.1
    for metrics in (free_metrics, clipped_metrics):
        assert metrics["gradient_norm"] == pytest.approx(norm, rel=1e-4)
        assert metrics["gradient_norm_max"] == metrics["gradient_norm"]
    torch.testing.assert_close(gradients(clipped), gradients(free) * 0.01 / norm, rtol=1e-3, atol=1e-7)


def test_a_step_is_adamws(learner_config: LearnerConfig, make_data: Data) -> None:
    """The first step from zero moments: every weight decays by lr * weight_decay and moves by lr against its sign."""
    config = learner_config().training(lr=1e-3, weight_decay=0.5, adam_epsilon=1e-12, grad_clip=None)
    group = learners(config)
    before = torch.cat([parameter.detach().flatten() for parameter in parameters(group)])
    update(group, make_data())
    after = torch.cat([parameter.detach().flatten() for parameter in parameters(group)])
    gradient = gradients(group)
    moved = gradient.abs() > 1e-6
    expected = before * (1 - 1e-3 * 0.5) - 1e-3 * gradient.sign()
    torch.testing.assert_close(after[moved], expected[moved], rtol=0, atol=1e-6)


# State


def copy_state(source: LearnerGroup, target: LearnerGroup, folder: Path) -> None:
    target.set_state(source.get_state())


def save_and_restore(source: LearnerGroup, target: LearnerGroup, folder: Path) -> None:
    source.save_to_path(folder)
    target.restore_from_path(folder)


@pytest.mark.parametrize("transfer", [copy_state, save_and_restore])
def test_a_learner_goes_on_as_if_it_had_never_stopped(
    learner_config: LearnerConfig, make_data: Data, tmp_path: Path, transfer: Callable[..., None]
) -> None:
    config = learner_config().training(lr=1e-3, warmup_steps=4)
    whole, resumed = learners(config.copy(copy_frozen=False)), learners(config.copy(copy_frozen=False))
    for _ in range(2):
        update(whole, make_data(minibatches=2))
    assert not same(weights(resumed), weights(whole))
    transfer(whole, resumed, tmp_path / "state")
    assert same(weights(resumed), weights(whole))
    expected, got = update(whole, make_data(minibatches=2)), update(resumed, make_data(minibatches=2))
    assert same(weights(resumed), weights(whole))
    assert witness(resumed).rates == witness(whole).rates[-2:] == pytest.approx([5e-4 * 1.25, 5e-4 * 1.5])
    names = {metric.name for metric in METRICS if metric.source == "learners/default_policy"}
    assert {name: got[name] for name in names} == {name: expected[name] for name in names}


def test_no_pickle_of_a_saved_learner_holds_a_weight(
    learner_config: LearnerConfig, make_data: Data, tmp_path: Path
) -> None:
    group = learners(learner_config())
    update(group, make_data())
    group.save_to_path(tmp_path)
    module = tmp_path / COMPONENT_LEARNER / COMPONENT_RL_MODULE / DEFAULT_MODULE_ID
    assert (module / "model.safetensors").is_file()
    assert all(file.stat().st_size < 50_000 for file in module.glob("*.pkl"))


# Metrics


def test_every_metric_of_the_table_is_reported(learner_config: LearnerConfig, make_data: Data) -> None:
    metrics = update(learners(learner_config()), make_data(minibatches=2))
    listed = {metric.name for metric in METRICS if metric.source == "learners/default_policy"}
    assert listed <= metrics.keys()
    assert all(np.isfinite(metrics[name]) for name in listed)


def test_metrics_are_means_over_all_tokens_of_the_update(learner_config: LearnerConfig, make_data: Data) -> None:
    data = make_data(minibatches=2, plan={"max_tokens_per_microbatch": 40})
    group = learners(learner_config())
    metrics = update(group, data)
    seen = witness(group).losses
    assert len(seen) > 2
    tokens = sum(int(r.loss_mask.sum()) for group in data.groups.values() for r in group.responses)
    assert metrics["trained_tokens"] == tokens
    assert metrics["num_module_steps_trained"] == 16
    probability = torch.cat([batch["logprobs"][batch["mask"]].exp() for batch in seen]).mean()
    assert metrics["mean_token_probability"] == pytest.approx(float(probability), rel=1e-5)


def test_an_updates_metrics_are_its_own(learner_config: LearnerConfig, make_data: Data) -> None:
    group = learners(learner_config().training(lr=1e-9))
    first, second = (update(group, make_data(minibatches=2)) for _ in range(2))
    assert (first["weights_seq_no"], second["weights_seq_no"]) == (1, 2)
    for name in ("entropy", "policy_loss", "trained_tokens", "gradient_norm", "gradient_updates"):
        assert second[name] == pytest.approx(first[name], rel=1e-3, abs=1e-6)
