"""A run's place in the stream of prompts: what a step begins with, and what a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rllib_dapo.rollout.acceptance_estimate import AcceptanceEstimate
from rllib_dapo.rollout.batch_rollout import Rates
from rllib_dapo.rollout.dynamic_sampler import DynamicSampler
from rllib_dapo.rollout.prompt_memory import PromptMemory

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig


class PromptPlace:
    """The next prompt seed, how many groups are accepted, and what is known of prompts.

    Tokens are not among them: prompts of groups that no batch has had a place for come again.

    Attributes:
        next_seed: First prompt seed of the next step.
        estimate: How many groups are accepted, by the steps so far.
        memory: What is known of prompts; None where `dynamic_sampling.prompt_memory` is off.
    """

    def __init__(self, config: DAPOConfig) -> None:
        """Begins with the first prompt.

        Args:
            config: The algorithm's configuration.
        """
        self._config = config
        self.next_seed = 0
        self.estimate = AcceptanceEstimate()
        self.memory: PromptMemory | None = None
        if config.prompt_memory is not None:
            self.memory = PromptMemory(config.prompt_memory, group_size=config.group_size)

    def begin_step(self) -> DynamicSampler:
        """Returns what decides on the groups of a step, of which nothing was asked for yet."""
        config = self._config
        return DynamicSampler(
            prompts_per_step=config.prompts_per_step,
            next_seed=self.next_seed,
            dynamic_sampling=config.dynamic_sampling_enabled,
            max_rounds=config.max_rounds,
            max_oversampling=config.max_oversampling,
            estimate=self.estimate,
            min_verdicts=1 if config.has_critic else 2,
            keeps=config.max_staleness > 0,
        )

    def visit_rates(self) -> Rates:
        """How often prompts are visited, by all that was sampled so far."""
        if self.memory is None:
            return None
        rates = self.memory.visit_rates()
        return rates.stored() if self._config.num_env_runners else rates

    def end_step(self, sampler: DynamicSampler) -> None:
        """Goes on to the first prompt that the batch did not need.

        Args:
            sampler: What has decided on the step's groups.
        """
        self.next_seed, self.estimate = sampler.next_to_decide, sampler.next_estimate
        if self.memory is not None:
            self.memory.remember(sampler.seen)

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        state = {"next_seed": self.next_seed, "accepted_groups": self.estimate.as_dict()}
        memory = {} if self.memory is None else {"prompt_memory": self.memory.get_state()}
        return {**state, **memory}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on where a checkpoint was; without a memory in it, this one knows no prompt.

        Args:
            state: What `get_state` returned.
        """
        self.next_seed = state["next_seed"]
        self.estimate = AcceptanceEstimate.of(state["accepted_groups"])
        if self.memory is not None and "prompt_memory" in state:
            self.memory.set_state(state["prompt_memory"])
