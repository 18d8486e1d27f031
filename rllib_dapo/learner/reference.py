"""The frozen model that training began with, against which divergence is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from rllib_dapo.learner.forward import ForwardSettings, token_outputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Reference(nn.Module):
    """A language model that is asked for log-probabilities alone."""

    def __init__(self, lm: PreTrainedModel) -> None:
        """Freezes a model.

        Args:
            lm: The start model, whole or sharded.
        """
        super().__init__()
        self.lm = lm.requires_grad_(False)

    def forward(self, batch: dict[str, Tensor], settings: ForwardSettings) -> Tensor:
        """`[B, T]` log-probabilities of the response tokens.

        Args:
            batch: Micro-batch of `core.collate`.
            settings: How log-probabilities are computed.
        """
        return token_outputs(self.lm, batch, settings)["logprobs"]
