"""Objectives by name: DAPO, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self

from rllib_dapo.config.objective_sections import ObjectiveSections

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig


class ObjectivePresets(ObjectiveSections):
    """Methods that set every row of the objective; what is set after them is set on top."""

    def grpo(self) -> Self:
        """Sets each row of the objective to GRPO's (arXiv 2402.03300; Section 2.2 of the paper).

        Symmetric clipping, the loss a mean over responses of their token means (Eq. 5), a KL term
        of 0.04 in the loss, no filtering of groups, no treatment of long responses. The paper's own
        experiments leave the KL out (Section 2.3): `.grpo().kl(coefficient=0.0)`.
        """
        config = self._clipped_objective_alone()
        return config.training(loss_aggregation="sequence_mean").kl(coefficient=0.04)

    def ppo(self) -> Self:
        """Sets each row of the objective to PPO's (arXiv 1707.06347), as used on language models.

        Symmetric clipping, the loss a mean over tokens, advantages of a value model. Lambda and
        gamma are 1: the only reward comes at a response's end, and any decay would hide it from the
        first tokens of a long one, as would the bias of a value model that has only begun to learn.
        There is no KL, which is optional in PPO. `training(group_size=1)` is then possible, and
        usual.
        """
        return (
            self._clipped_objective_alone()
            .training(advantage_estimator="gae", gamma=1.0)
            .critic(gae_lambda=1.0, value_loss_coefficient=0.5, value_clip=0.2, lr=1e-4, warmup=0)
        )

    def _clipped_objective_alone(self) -> Self:
        """The clipped objective without what DAPO and others have added to it."""
        return (
            self.training(
                objective="clip",
                epsilon_low=0.2,
                epsilon_high=0.2,
                dual_clip=None,
                sapo_temperatures=(1.0, 1.05),
                ratio_level="token",
                loss_aggregation="token_mean",
                advantage_estimator="group",
                normalize_advantages_by_std=True,
                entropy_coefficient=0.0,
                entropy_mask_fraction=None,
                token_mask=None,
            )
            .kl(coefficient=0.0, estimator="k3", placement="loss", importance_ratio=False)
            .dynamic_sampling(enabled=False)
            .overlong(penalty=0.0, filtering=False)
        )


# What a run file's `preset` may be, and what is done to a new configuration for it.
PRESETS: Mapping[str, Callable[[DAPOConfig], DAPOConfig]] = {
    "dapo": lambda config: config,
    "grpo": ObjectivePresets.grpo,
    "ppo": ObjectivePresets.ppo,
}
