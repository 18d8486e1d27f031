"""Top-k, top-p and min-p: which tokens they leave, and log-probabilities over these alone."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from rllib_dapo.core import (
    EVERY_TOKEN,
    SamplingSet,
    chunked_logprobs,
    logprob_and_entropy,
    sampling_set,
)

# Probabilities 0.5, 0.25, 0.15, 0.1 in another order than their sizes.
PROBABILITIES = torch.tensor([[0.15, 0.5, 0.1, 0.25]], dtype=torch.float64)
LOGITS = PROBABILITIES.log()

SETS = [
    SamplingSet(top_k=3),
    SamplingSet(top_p=0.8),
    SamplingSet(min_p=0.1),
    SamplingSet(top_k=4, top_p=0.6),
    SamplingSet(top_k=6, top_p=0.9, min_p=0.02),
]


def members(rule: SamplingSet, logits: Tensor = LOGITS) -> list[int]:
    return rule.members(logits)[0].nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (EVERY_TOKEN, [0, 1, 2, 3]),
        (SamplingSet(top_k=1), [1]),
        (SamplingSet(top_k=3), [0, 1, 3]),
        (SamplingSet(top_k=9), [0, 1, 2, 3]),
        (SamplingSet(top_p=0.4), [1]),
        (SamplingSet(top_p=0.6), [1, 3]),
        (SamplingSet(top_p=0.76), [0, 1, 3]),
        (SamplingSet(min_p=0.4), [1, 3]),  # 0.4 of 0.5 is 0.2
        (SamplingSet(min_p=0.21), [0, 1, 3]),  # and 0.21 of it 0.105
        (SamplingSet(min_p=1.0), [1]),
    ],
    ids=str,
)
def test_the_set_by_hand(rule: SamplingSet, kept: list[int]) -> None:
    assert members(rule) == kept


def test_top_p_counts_the_mass_of_what_top_k_and_min_p_have_left() -> None:
    # Of 0.5 and 0.25 the first has two thirds: enough for 0.6, though 0.5 is not.
    assert members(SamplingSet(top_k=2, top_p=0.6)) == [1]
    assert members(SamplingSet(min_p=0.4, top_p=0.6)) == [1]
    assert members(SamplingSet(top_p=0.6)) == [1, 3]
    # And min-p looks at the whole distribution: both leave as much as the narrower one.
    assert members(SamplingSet(top_k=3, min_p=0.4)) == [1, 3]
    assert members(SamplingSet(top_k=1, min_p=0.4)) == [1]


def test_equal_logits_at_the_edge_of_top_k_all_stay_and_top_p_counts_them() -> None:
    logits = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]])
    assert members(SamplingSet(top_k=2), logits) == [0, 1, 2, 3]

    flat = torch.zeros(1, 10)
    assert len(members(SamplingSet(top_p=0.45), flat)) == 5


def test_a_word_that_the_model_may_not_use_is_in_no_set() -> None:
    logits = torch.tensor([[0.0, -torch.inf, -1.0]])
    for rule in (SamplingSet(top_k=3), SamplingSet(top_p=0.999), SamplingSet(min_p=1e-9)):
        assert members(rule, logits) == [0, 2]


def test_log_probabilities_are_renormalised_by_hand() -> None:
    of = partial(logprob_and_entropy, temperature=1.0)

    logprob, entropy = of(LOGITS, torch.tensor([3]), sampling_set=SamplingSet(top_k=2))
    assert logprob.item() == pytest.approx(math.log(0.25 / 0.75))
    assert entropy.item() == pytest.approx(-(2 / 3) * math.log(2 / 3) - math.log(1 / 3) / 3)

    logprob, entropy = of(LOGITS, torch.tensor([1]), sampling_set=SamplingSet(top_p=0.4))
    assert (logprob.item(), entropy.item()) == (0.0, 0.0)


def test_the_sampled_token_is_always_a_member() -> None:
    logprob, _ = logprob_and_entropy(
        LOGITS, torch.tensor([2]), temperature=1.0, sampling_set=SamplingSet(top_k=2)
    )
    assert logprob.item() == pytest.approx(math.log(0.1 / (0.5 + 0.25 + 0.1)))


def test_the_set_is_cut_after_temperature() -> None:
    # At temperature 0.5 probabilities are squared: 0.25 of 0.345, which is over 0.7.
    hot, cold = (
        logprob_and_entropy(
            LOGITS, torch.tensor([1]), temperature=t, sampling_set=SamplingSet(top_p=0.7)
        )[0].item()
        for t in (1.0, 0.5)
    )
    assert hot == pytest.approx(math.log(0.5 / 0.75))
    assert cold == 0.0


@pytest.mark.parametrize("rule", SETS, ids=str)
def test_the_gradient_is_the_finite_difference(rule: SamplingSet) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 11, dtype=torch.float64, generator=generator).mul_(3).requires_grad_()
    targets = logits.argmax(-1)
    targets[0] = logits[0].argmin()  # outside of every set, and taken in

    assert torch.autograd.gradcheck(
        lambda x: logprob_and_entropy(x, targets, temperature=0.8, sampling_set=rule), (logits,)
    )


def test_tokens_outside_of_the_set_have_no_gradient_and_those_inside_sum_to_zero() -> None:
    logits = LOGITS.clone().requires_grad_()
    logprob_and_entropy(
        logits, torch.tensor([3]), temperature=1.0, sampling_set=SamplingSet(top_k=2)
    )[0].sum().backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([0.0, -2 / 3, 0.0, 2 / 3])


@pytest.mark.parametrize("rule", SETS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_rule_leaves_what_vllm_would_on_flat_and_sharp_distributions(
    rule: SamplingSet, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(1)
    for scale in (0.01, 1.0, 20.0):
        logits = torch.randn(64, 300, generator=generator).mul(scale).to(dtype).float()
        assert torch.equal(rule.members(logits).sum(-1), sizes_one_by_one(rule, logits))


def sizes_one_by_one(rule: SamplingSet, logits: Tensor) -> Tensor:
    """How many tokens are left, by a loop over each row's tokens in descending order."""
    sizes = []
    for row in logits.double():
        p = sorted(row.softmax(-1).tolist(), reverse=True)
        p = [q for q in p if q >= rule.min_p * p[0] * (1 - 1e-12)]
        if 0 < rule.top_k < len(p):
            p = [q for q in p if q >= p[rule.top_k - 1]]

        mass, size = 0.0, 0
        enough = rule.top_p * sum(p) * (1 - 1e-7) if rule.top_p < 1 else math.inf
        while size < len(p) and mass < enough:
            mass, size = mass + p[size], size + 1
        sizes.append(size)
    return torch.tensor(sizes)


def test_neighbours_differ_at_the_edge_alone() -> None:
    wider, narrower = SamplingSet(top_k=3, top_p=0.75, min_p=0.5).neighbours(0.01)
    assert wider == SamplingSet(top_k=3, top_p=0.76, min_p=0.495)
    assert narrower == SamplingSet(top_k=2, top_p=0.74, min_p=0.505)
    assert SamplingSet(min_p=0.5).neighbours(0.5) == (
        SamplingSet(min_p=0.25),
        SamplingSet(min_p=0.75),
    )
    assert SamplingSet(top_k=1).neighbours(0.1) == (SamplingSet(top_k=1),) * 2
    assert SamplingSet(top_p=0.999).neighbours(0.01)[0].is_whole

    # 0.5 and 0.25 are three quarters: rounding decides whether 0.15 is needed too.
    wider, narrower = SamplingSet(top_p=0.75).neighbours(1e-4)
    assert (members(wider), members(narrower)) == ([0, 1, 3], [1, 3])


def test_rows_are_sorted_a_few_at_a_time_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rule = SamplingSet(top_k=7, top_p=0.8)
    logits = torch.randn(10, 50, generator=torch.Generator().manual_seed(2))
    at_once = rule.members(logits)
    monkeypatch.setattr(sampling_set, "WORDS_AT_A_TIME", 120)
    assert torch.equal(rule.members(logits), at_once)


@pytest.mark.parametrize("rule", SETS, ids=str)
@pytest.mark.parametrize("chunk_tokens", [3, 100])
def test_in_chunks_values_and_gradients_are_those_of_full_logits(
    rule: SamplingSet, chunk_tokens: int
) -> None:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(10, 6, dtype=torch.float64, generator=generator).requires_grad_()
    head = torch.nn.Linear(6, 23, dtype=torch.float64)
    targets = torch.arange(10) * 2

    actual = chunked_logprobs(
        hidden, head, targets, temperature=0.7, chunk_tokens=chunk_tokens, sampling_set=rule
    )
    expected = logprob_and_entropy(head(hidden), targets, temperature=0.7, sampling_set=rule)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)

    upstream = torch.linspace(-1, 1, 10, dtype=torch.float64)
    leaves = (hidden, head.weight, head.bias)
    gradients, references = (
        torch.autograd.grad([*pair], leaves, [upstream, upstream.flip(0)])
        for pair in (actual, expected)
    )
    torch.testing.assert_close(gradients, references, rtol=1e-11, atol=1e-11)


def test_without_a_rule_nothing_is_computed() -> None:
    logits = torch.randn(2, 3)
    assert EVERY_TOKEN.restrict(logits, torch.tensor([0, 1]), temperature=1.0) is logits
