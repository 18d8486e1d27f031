"""What is fixed before the first step of an update: old probabilities, advantages, and which tokens are trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rllib_dapo import DAPOConfig
from rllib_dapo.core import generalized_advantages, group_advantages, kl_estimates, terminal_rewards
from rllib_dapo.learner.training_data import GroupTrainingData, MicroBatches

LearnerConfig = Callable[..., DAPOConfig]
MakeTrainer = Callable[[DAPOConfig], Any]
Data = Callable[..., GroupTrainingData]
ByResponse = Callable[..., dict[tuple[int, int], Tensor]]
Change = Callable[[DAPOConfig], DAPOConfig]

CUTS = [
    {},
    {"max_tokens_per_microbatch": 40},
    {"max_tokens_per_microbatch": 1},
    {"max_row_tokens": 20},
]


@pytest.fixture
def config(learner_config: LearnerConfig) -> DAPOConfig:
    """In float64 rounding hardly matters, however a mini-batch is cut: it is that of the model's norms, in float32."""
    return learner_config().language_model(dtype="float64")


def flat(minibatches: list[MicroBatches]) -> list[dict[str, Tensor]]:
    return [batch for minibatch in minibatches for batch in minibatch.batches]


def kl_of(batch: dict[str, Tensor], estimator: str = "k3") -> Tensor:
    return kl_estimates(
        batch["policy_logprobs"], batch["ref_logprobs"], batch["mask"], estimator=estimator
    )


# What is computed


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
    """Of three mini-batches of one micro-batch each; `update` makes the same passes before it trains."""
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
    batches = flat(trainer.prepared(make_data(minibatches=3)))
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
    for batch in flat(make_trainer(config).prepared(make_data(minibatches=2))):
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


# Which tokens are trained


@pytest.mark.parametrize("fraction", [0.2, 0.5, 1.0])
def test_the_entropy_mask_keeps_the_most_uncertain_share_of_each_minibatch(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data, fraction: float
) -> None:
    trainer = make_trainer(config.training(entropy_mask_fraction=fraction))
    for minibatch in trainer.prepared(
        make_data(minibatches=2, plan={"max_tokens_per_microbatch": 40})
    ):
        assert len(minibatch.batches) > 1
        mask, kept, entropy = (
            torch.cat([batch[name].flatten() for batch in minibatch.batches])
            for name in ("mask", "token_mask", "old_entropy")
        )
        assert int(kept.sum()) == max(1, round(fraction * int(mask.sum())))
        assert not (kept & ~mask).any()
        dropped = entropy[mask & ~kept]
        assert not dropped.numel() or float(entropy[kept].min()) > float(dropped.max())


def test_the_entropy_mask_is_the_same_however_a_minibatch_is_cut(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data, by_response: ByResponse
) -> None:
    trainer = make_trainer(config.training(entropy_mask_fraction=0.3))
    whole, *others = (
        by_response(flat(trainer.prepared(make_data(minibatches=2, plan=plan))), "token_mask")
        for plan in CUTS
    )
    assert len(whole) == 16
    for cut in others:
        assert cut.keys() == whole.keys()
        assert all(torch.equal(cut[key], kept) for key, kept in whole.items())


def even_ids(*, response_ids: Tensor, entropy: Tensor, mask: Tensor) -> Tensor:
    return response_ids % 2 == 0


def test_a_users_mask_may_be_a_function_or_its_name(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "my_token_masks.py").write_text(
        "def even_ids(*, response_ids, entropy, mask):\n    return response_ids % 2 == 0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for setting in (even_ids, "my_token_masks:even_ids"):
        trainer = make_trainer(config.copy(copy_frozen=False).training(token_mask=setting))
        for batch in flat(trainer.prepared(make_data(plan={"max_tokens_per_microbatch": 40}))):
            assert torch.equal(
                batch["token_mask"], batch["mask"] & (batch["response_ids"] % 2 == 0)
            )


def test_a_users_mask_is_given_ids_entropies_and_mask_and_narrows_the_entropy_mask(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    given: list[dict[str, Tensor]] = []

    def note(**tensors: Tensor) -> Tensor:
        given.append(tensors)
        return even_ids(**tensors)

    alone = make_trainer(config.copy(copy_frozen=False).training(entropy_mask_fraction=0.5))
    both = make_trainer(config.training(entropy_mask_fraction=0.5, token_mask=note))
    expected, found = (
        flat(trainer.prepared(make_data(minibatches=2))) for trainer in (alone, both)
    )
    for batch, plain, tensors in zip(found, expected, given, strict=True):
        assert tensors.keys() == {"response_ids", "entropy", "mask"}
        assert torch.equal(tensors["mask"], batch["mask"])
        assert torch.equal(tensors["entropy"], batch["old_entropy"])
        assert (tensors["entropy"][batch["mask"]] > 0).all()
        assert torch.equal(
            batch["token_mask"], plain["token_mask"] & (batch["response_ids"] % 2 == 0)
        )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            lambda mask: mask.float(),
            r"gave torch\.float32 \(16, 7\): it must give torch\.bool \(16, 7\)",
        ),
        (
            lambda mask: mask[:, :3],
            r"gave torch\.bool \(16, 3\): it must give torch\.bool \(16, 7\)",
        ),
        (lambda mask: mask[0], r"gave torch\.bool \(7,\): it must give torch\.bool \(16, 7\)"),
    ],
    ids=["numbers", "too short", "one row"],
)
def test_a_users_mask_of_another_shape_or_type_is_refused(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    answer: Callable[[Tensor], Tensor],
    said: str,
) -> None:
    def bad(*, response_ids: Tensor, entropy: Tensor, mask: Tensor) -> Tensor:
        return answer(mask)

    trainer = make_trainer(config.training(token_mask=bad))
    with pytest.raises(ValueError, match=rf"^training\.token_mask=<function .*bad.*> {said}$"):
        trainer.prepared(make_data())


# The divergence in the reward


@pytest.mark.parametrize("plan", CUTS, ids=str)
@pytest.mark.parametrize(
    ("estimator", "settings", "options"),
    [
        ("k1", {}, {}),
        ("k3", {"normalize_advantages_by_std": False}, {"normalize_by_std": False}),
        ("k3", {"advantage_estimator": "leave_one_out"}, {"leave_one_out": True}),
    ],
    ids=["k1", "k3 without std", "leave one out"],
)
def test_rewards_less_the_divergence_are_what_groups_compare(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    by_response: ByResponse,
    plan: dict[str, int],
    estimator: str,
    settings: dict[str, Any],
    options: dict[str, bool],
) -> None:
    """Though a group lies in two mini-batches and many micro-batches."""
    config.kl(coefficient=0.3, estimator=estimator, placement="reward").training(**settings)
    trainer = make_trainer(config)
    trainer.shake()
    batches = flat(trainer.prepared(make_data(minibatches=3, plan=plan)))
    policy, reference, advantages = (
        by_response(batches, name) for name in ("policy_logprobs", "ref_logprobs", "advantages")
    )
    rewards = {}
    for (group, index), logprobs in policy.items():
        difference = logprobs - reference[group, index]
        kl = difference if estimator == "k1" else (-difference).exp() - 1 + difference
        assert float(kl.abs().sum()) > 1e-3
        rewards[group, index] = (-1.0, 1.0, 0.25, 0.5)[index] - 0.3 * float(kl.sum())
    assert rewards == pytest.approx(
        {k: float(v) for k, v in by_response(batches, "rewards").items()}, abs=1e-9
    )
    for group in range(4):
        expected = group_advantages(torch.tensor([rewards[group, i] for i in range(4)]), **options)
        found = torch.stack([advantages[group, i] for i in range(4)])
        torch.testing.assert_close(found, expected.to(found.dtype), rtol=0, atol=1e-6)


def test_in_the_loss_the_divergence_leaves_rewards_and_advantages_alone(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data, by_response: ByResponse
) -> None:
    trainer, data = make_trainer(config.kl(coefficient=0.3)), make_data(minibatches=2)
    trainer.shake()
    planned = {
        (r.group, r.index): r for plan in data.shards[0] for micro in plan for r in micro.responses
    }
    batches = flat(trainer.prepared(data))
    for name in ("advantages", "rewards"):
        values = {key: float(value) for key, value in by_response(batches, name).items()}
        assert values == {
            key: getattr(response, name.removesuffix("s")) for key, response in planned.items()
        }


# The critic


def shaken_critic(make_trainer: MakeTrainer, config: DAPOConfig) -> Any:
    """A Learner whose values are not all 0 and whose policy is not its reference."""
    trainer = make_trainer(
        config.training(advantage_estimator="gae", gamma=0.9).critic(gae_lambda=0.8)
    )
    trainer.shake()
    with torch.no_grad():
        torch.nn.init.normal_(
            trainer.module.value_head.weight, std=0.3, generator=torch.Generator().manual_seed(0)
        )
        trainer.module.value_head.bias.fill_(0.1)
    return trainer


@pytest.mark.parametrize("plan", CUTS, ids=str)
@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_a_critics_advantages_are_those_of_core_whitened_over_all_tokens(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    by_response: ByResponse,
    plan: dict[str, int],
    kl: float,
) -> None:
    trainer = shaken_critic(make_trainer, config.kl(coefficient=kl, placement="reward"))
    batches = flat(trainer.prepared(make_data(minibatches=2, plan=plan)))
    raw: dict[tuple[int, int], Tensor] = {}
    for batch in batches:
        rewards = terminal_rewards(batch["rewards"], batch["mask"])
        if kl:
            rewards = rewards - kl * kl_of(batch)
        advantages, returns = generalized_advantages(
            rewards, batch["old_values"], batch["mask"], gamma=0.9, gae_lambda=0.8
        )
        torch.testing.assert_close(batch["returns"], returns, rtol=0, atol=1e-12)
        raw |= by_response([{**batch, "raw": advantages}], "raw")
    tokens = torch.cat(list(raw.values()))
    found = by_response(batches, "advantages")
    for key, advantages in raw.items():
        expected = (advantages - tokens.mean()) / (tokens.std(correction=0) + 1e-6)
        torch.testing.assert_close(found[key], expected, rtol=0, atol=1e-9)
    assert float(torch.cat(list(found.values())).mean()) == pytest.approx(0.0, abs=1e-9)
    assert all(not batch["advantages"][~batch["mask"]].any() for batch in batches)


def test_a_critics_advantages_do_not_depend_on_the_cut(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data, by_response: ByResponse
) -> None:
    trainer = shaken_critic(make_trainer, config.kl(coefficient=0.3, placement="reward"))
    for name in ("advantages", "returns"):
        whole, *others = (
            by_response(flat(trainer.prepared(make_data(minibatches=2, plan=plan))), name)
            for plan in CUTS
        )
        for cut in others:
            for key, values in whole.items():
                torch.testing.assert_close(cut[key], values, rtol=0, atol=1e-6)


def test_without_division_by_the_deviation_a_critics_advantages_are_as_they_are(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    trainer = shaken_critic(make_trainer, config.training(normalize_advantages_by_std=False))
    for batch in flat(trainer.prepared(make_data(minibatches=2))):
        rewards = terminal_rewards(batch["rewards"], batch["mask"])
        expected, _ = generalized_advantages(
            rewards, batch["old_values"], batch["mask"], gamma=0.9, gae_lambda=0.8
        )
        torch.testing.assert_close(batch["advantages"], expected, rtol=0, atol=1e-12)
