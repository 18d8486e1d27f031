"""Which tokens are trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
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
        assert not (kept & ~mask).any()

        # Tokens that tie with the last one kept are kept too: first tokens of responses to one
        # prompt may have the very same entropy.
        wanted = max(1, round(fraction * int(mask.sum())))
        last = entropy[mask].sort(descending=True).values[wanted - 1]
        assert torch.equal(kept[mask], entropy[mask] >= last)
        assert int((kept & (entropy > last)).sum()) < wanted


def test_the_entropy_mask_is_the_same_however_a_minibatch_is_cut(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    by_response: ByResponse,
    plans: list[dict[str, int]],
) -> None:
    trainer = make_trainer(config.training(entropy_mask_fraction=0.3))
    whole, *others = (
        by_response(trainer.prepared_batches(make_data(minibatches=2, plan=plan)), "token_mask")
        for plan in plans
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
        for batch in trainer.prepared_batches(make_data(plan={"max_tokens_per_microbatch": 40})):
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
        trainer.prepared_batches(make_data(minibatches=2)) for trainer in (alone, both)
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
