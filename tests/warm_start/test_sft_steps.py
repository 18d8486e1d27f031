"""The loss of supervised fine-tuning on a real Learner, beside transformers' own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from torch import Tensor
from transformers import PreTrainedModel

from rllib_dapo.envs import TextSpace
from rllib_dapo.models import load_causal_lm
from rllib_dapo.models.supervised_tokens import SupervisedTokens
from rllib_dapo.warm_start.prepare_sft import PreparedSFT, prepare_sft
from rllib_dapo.warm_start.sft_settings import read_sft
from rllib_dapo.warm_start.sft_steps import count_steps, learn, mean_loss, step_records

SAID = [
    {"role": "user", "content": "1+1="},
    {"role": "assistant", "content": "3"},
    {"role": "user", "content": "Look again: "},
    {"role": "assistant", "content": "2"},
]
# Of several lengths; two responses to one prompt, and several turns.
RECORDS = [
    {"prompt": "1+1=", "response": "2"},
    {"prompt": "1+1=", "response": "it is 2"},
    {"prompt": "12+30=", "response": "42"},
    {"messages": SAID},
]
Prepare = Callable[..., PreparedSFT]


@pytest.fixture
def prepare(raw_model: Path, write_lines: Callable[..., Path], tmp_path: Path) -> Prepare:
    def prepared(*overrides: str, **options: Any) -> PreparedSFT:
        settings = read_sft(
            file=write_lines(RECORDS),
            folder=tmp_path / "model",
            model=str(raw_model),
            overrides=[
                "language_model.dtype=float64",
                "language_model.num_threads=1",
                "training.grad_clip=null",
                *overrides,
            ],
            **{"heldout_fraction": 0.0} | options,
        )
        return prepare_sft(settings)

    return prepared


@pytest.fixture
def make_learners() -> Iterator[Callable[[PreparedSFT], Any]]:
    made: list[Any] = []

    def make(prepared: PreparedSFT) -> Any:
        spaces = {DEFAULT_MODULE_ID: (TextSpace(1), TextSpace(1))}
        made.append(prepared.config.build_learner_group(spaces=spaces))
        return made[-1]

    yield make
    for group in made:
        group.shutdown()


def _transformers_loss(model: PreTrainedModel, records: tuple[SupervisedTokens, ...]) -> Tensor:
    """The loss that transformers gives for labels, on one padded batch."""
    width = max(len(r.prompt_ids) + len(r.token_ids) for r in records)
    ids = torch.zeros((len(records), width), dtype=torch.long)
    labels, attention = torch.full_like(ids, -100), torch.zeros_like(ids)
    for row, record in enumerate(records):
        start, end = len(record.prompt_ids), len(record.prompt_ids) + len(record.token_ids)
        ids[row, :end] = torch.tensor(record.prompt_ids + record.token_ids)
        attention[row, :end] = 1
        learnt = torch.tensor(record.loss_mask)
        labels[row, start:end] = torch.where(learnt, ids[row, start:end], -100)
    return model(input_ids=ids, attention_mask=attention, labels=labels).loss


def _gradient_of_step(group: Any, prepared: PreparedSFT) -> tuple[Tensor, dict[str, float]]:
    """The gradient with which an optimizer step on all records is taken, and its figures."""
    optimizer = group._learner.get_optimizer(DEFAULT_MODULE_ID)
    taken: list[Tensor] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        params = [p for one in optimizer.param_groups for p in one["params"]]
        taken.append(torch.cat([p.grad.flatten().clone() for p in params]))

    optimizer.register_step_pre_hook(note)
    figures = learn(group, prepared.data.train, prepared.config)
    return taken[0], figures


@pytest.mark.parametrize(
    "cut",
    [
        (),
        ("training.max_tokens_per_microbatch=16",),
        ("training.max_shared_row_tokens=64",),
    ],
    ids=("one micro-batch", "several", "one prompt for two responses"),
)
def test_the_gradient_is_that_of_transformers_labels(
    cut: tuple[str, ...],
    prepare: Prepare,
    make_learners: Callable[[PreparedSFT], Any],
    raw_model: Path,
) -> None:
    prepared = prepare(*cut)
    model = load_causal_lm(str(raw_model), dtype=torch.float64)
    loss = _transformers_loss(model, prepared.data.train)
    loss.backward()  # type: ignore[no-untyped-call]
    expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    gradient, figures = _gradient_of_step(make_learners(prepared), prepared)

    assert figures["policy_loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert figures["trained_tokens"] == sum(sum(r.loss_mask) for r in prepared.data.train)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6 * float(expected.norm()))


def test_a_prompt_has_no_gradient_of_its_own(
    prepare: Prepare, make_learners: Callable[[PreparedSFT], Any]
) -> None:
    prepared = prepare()
    group = make_learners(prepared)
    seen: list[dict[str, Tensor]] = []
    learner = group._learner
    forward = learner.forward_micro_batch

    def watched(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs = forward(batch)
        outputs["logprobs"].retain_grad()
        seen.append({"mask": batch["mask"], "logprobs": outputs["logprobs"]})
        return outputs

    learner.forward_micro_batch = watched
    learn(group, prepared.data.train, prepared.config)

    # Prompts have no place in `[B, T]` at all; what was said back between two turns has one.
    (batch,) = seen
    tokens = int(batch["mask"].sum())
    gradient = batch["logprobs"].grad
    assert gradient is not None
    assert batch["mask"].shape[1] > int(batch["mask"].sum(1).max())
    assert not gradient[~batch["mask"]].any()
    torch.testing.assert_close(
        gradient[batch["mask"]], torch.full((tokens,), -1.0 / tokens, dtype=gradient.dtype)
    )


def test_the_held_out_loss_is_that_of_transformers_and_teaches_nothing(
    prepare: Prepare, make_learners: Callable[[PreparedSFT], Any], raw_model: Path
) -> None:
    prepared = prepare("training.max_tokens_per_microbatch=16")
    group = make_learners(prepared)
    with torch.no_grad():
        model = load_causal_lm(str(raw_model), dtype=torch.float64)
        expected = float(_transformers_loss(model, prepared.data.train))

    for _ in range(2):
        found = mean_loss(group, prepared.data.train, prepared.config)
        assert found == pytest.approx(expected, rel=1e-5)


def test_steps_follow_the_schedule(
    prepare: Prepare, make_learners: Callable[[PreparedSFT], Any]
) -> None:
    prepared = prepare(
        "training.warmup_steps=2",
        "training.lr=1e-3",
        "training.lr_schedule=linear",
        epochs=8,
        options={"training.minibatch_size": 4},
    )
    assert prepared.steps == 8
    group = make_learners(prepared)
    optimizer = group._learner.get_optimizer(DEFAULT_MODULE_ID)

    rates = []
    for records in step_records(prepared.data.train, epochs=8, steps=8, seed=0):
        learn(group, records, prepared.config)
        rates.append(optimizer.param_groups[0]["lr"])

    # Half, then full from the second step on, and down by a seventh of it each.
    assert rates == pytest.approx([5e-4, *(1e-3 * (1 - i / 7) for i in range(7))])


def test_each_epoch_has_every_record_once_in_another_order(prepare: Prepare) -> None:
    records = prepare().data.train
    batches = list(step_records(records, epochs=3, steps=6, seed=0))

    epochs = [batches[i] + batches[i + 1] for i in (0, 2, 4)]
    assert all({id(r) for r in epoch} == {id(r) for r in records} for epoch in epochs)
    assert len({tuple(map(id, epoch)) for epoch in epochs}) > 1
    again = list(step_records(records, epochs=3, steps=6, seed=0))
    assert [list(map(id, one)) for one in again] == [list(map(id, one)) for one in batches]
    assert count_steps(100, epochs=3, batch_size=32) == 9
    assert count_steps(1, epochs=1, batch_size=32) == 1
