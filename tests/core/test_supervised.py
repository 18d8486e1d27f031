"""The loss of supervised fine-tuning as an objective."""

from __future__ import annotations

import pytest
import torch

from rllib_dapo.core import bind_objective
from rllib_dapo.core.loss import policy_loss
from rllib_dapo.core.supervised import negative_log_likelihood


def test_with_token_mean_it_is_the_mean_over_all_tokens_with_loss() -> None:
    # Probabilities 1/2 and 1/4 in one response, 1/8 in another; the token without loss is not 0.
    logprobs = torch.tensor([[0.5, 0.25], [0.125, 0.9]]).log().requires_grad_()
    mask = torch.tensor([[True, True], [True, False]])

    loss, statistics = policy_loss(
        logprobs,
        logprobs.detach(),
        torch.ones(2),
        mask,
        torch.full((2,), 1 / 3),
        objective=bind_objective(negative_log_likelihood, {}),
    )
    loss.backward()  # type: ignore[no-untyped-call]

    assert float(loss.detach()) == pytest.approx((1 + 2 + 3) / 3 * torch.log(torch.tensor(2.0)))
    assert statistics["tokens"] == 3
    expected = torch.where(mask, -1 / 3, 0.0)
    torch.testing.assert_close(logprobs.grad, expected)
