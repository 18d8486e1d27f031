"""What all groups must keep, or the run ends: right weights, and some verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rllib_dapo.core.types import GroupSummary
from rllib_dapo.envs.verify.verdict import MissingReason
from rllib_dapo.rollout.dynamic_sampler import DynamicSampler
from rllib_dapo.rollout.group_decisions import WITHOUT_SIGNAL, Decision
from rllib_dapo.rollout.make_environment import environment_name
from rllib_dapo.rollout.rollout_result import SampledGroup

if TYPE_CHECKING:
    from ray.rllib.env.env_runner_group import EnvRunnerGroup

    from rllib_dapo.config.dapo_config import DAPOConfig


_WAY_OUT = {
    Decision.ALL_CORRECT: "the model solves this task; give harder problems",
    Decision.ALL_WRONG: "the task is too hard for this model, or no answer has the form that the "
    "environment looks for; read some responses (samples/ in the trial's folder), give easier "
    "problems, or raise training.group_size",
    Decision.NO_SIGNAL: "all responses to a prompt get the same reward; let the environment grade "
    "more finely, or raise training.group_size",
}


class RolloutChecks:
    """Looks at the groups of training, and ends the run where going on would be for nothing.

    Verdicts are looked at in rounds of as many groups as a batch has, in the order in which groups
    arrive.
    """

    def __init__(self, config: DAPOConfig) -> None:
        """Nothing was sampled yet.

        Args:
            config: The algorithm's configuration.
        """
        self._config = config
        self._round: list[GroupSummary] = []
        self._rounds_without_verdict = 0
        self._first_reason = ""
        self._steps_without_signal = 0

    def check_step(self, sampler: DynamicSampler) -> None:
        """Checks what a whole step has found.

        Args:
            sampler: Dynamic sampling at the end of the step.

        Raises:
            RuntimeError: If more steps in a row found no informative group than
                `dynamic_sampling.max_steps_without_signal`; one line.
        """
        found = sampler.decisions
        if found[Decision.ACCEPTED] or not any(found[kind] for kind in WITHOUT_SIGNAL):
            self._steps_without_signal = 0
            return
        self._steps_without_signal += 1

        limit = self._config.max_steps_without_signal
        if limit is not None and self._steps_without_signal > limit:
            most = max(WITHOUT_SIGNAL, key=lambda kind: found[kind])
            kinds = ", ".join(f"{count} {kind}" for kind, count in found.items())
            raise RuntimeError(
                f"no group of {self._steps_without_signal} training steps in a row was informative "
                f"(the last one: {kinds}), and dynamic_sampling.max_steps_without_signal={limit}: "
                f"{_WAY_OUT[most]}"
            )

    def check(self, arrived: Mapping[int, SampledGroup], *, versions: range) -> None:
        """Checks groups that have arrived.

        Args:
            arrived: Groups by prompt seed.
            versions: Versions of the weights that may have sampled them.

        Raises:
            RuntimeError: If a group was sampled with other weights; if the environment poses
                another problem at the second reset with a seed as a rule; or if more rounds in a
                row brought no verdict than `dynamic_sampling.max_rounds_without_verdict`. One line.
        """
        self._check_versions(arrived, versions)
        self._round += [group.summary for group in arrived.values()]
        if len(self._round) >= self._config.prompts_per_step:
            groups, self._round = self._round, []
            self._check_seeding(groups)
            self._check_verdicts(groups)

    def _check_versions(self, sampled: Mapping[int, SampledGroup], versions: range) -> None:
        stale = sorted(
            seed for seed, g in sampled.items() if g.summary.weights_version not in versions
        )
        if stale:
            raise RuntimeError(
                f"prompts {stale[:8]} were sampled with other weights than {_named(versions)}: an "
                "engine missed an update, or was restarted meanwhile; raise "
                f"weights.timeout_s={self._config.weight_sync_timeout_s}, or go on from the "
                "last checkpoint"
            )

    def _check_seeding(self, groups: Iterable[GroupSummary]) -> None:
        """Refuses an environment whose verdicts are about other problems than the prompts."""
        reasons = [reason for group in groups for reason in group.reasons]
        found = [reason for reason in reasons if reason.startswith(f"{MissingReason.NOT_SEEDED}:")]
        if found and 2 * len(found) >= len(reasons):
            raise RuntimeError(
                f"environment.env={environment_name(self._config.env)} cannot be seeded: "
                f"{len(found)} of {len(reasons)} responses would be judged by another problem than "
                f"the prompt's, as {found[0].partition(': ')[2]}. Draw only from a generator that "
                "is made from the seed of reset"
            )

    def _check_verdicts(self, groups: list[GroupSummary]) -> None:
        if any(not math.isnan(reward) for group in groups for reward in group.rewards):
            self._rounds_without_verdict = 0
            return

        reason = next((group.missing_reason for group in groups if group.missing_reason), "")
        if not reason:  # such as where every prompt is too long
            return
        if not self._rounds_without_verdict:
            self._first_reason = reason
        self._rounds_without_verdict += 1

        limit = self._config.max_rounds_without_verdict
        if limit is not None and self._rounds_without_verdict > limit:
            raise RuntimeError(
                f"environment.env={environment_name(self._config.env)} gave no verdict on any "
                f"response of {self._rounds_without_verdict} rounds in a row, and "
                f"dynamic_sampling.max_rounds_without_verdict={limit}; the first reason: "
                f"{self._first_reason}"
            )


def _named(versions: range) -> str:
    if len(versions) == 1:
        return f"version {versions[0]}"
    return f"versions {versions[0]} to {versions[-1]}, which rollout.max_staleness allows"


def refuse_without_prompts(env_runner_group: EnvRunnerGroup, config: DAPOConfig) -> None:
    """Refuses an environment that gives no prompt, before anything is sampled.

    Args:
        env_runner_group: EnvRunners with their environments.
        config: The algorithm's configuration.

    Raises:
        ValueError: If the first seeds give no prompt on any EnvRunner; one line.
    """
    faults = env_runner_group.foreach_env_runner(
        lambda runner: runner.environments.prompt_fault(),
        local_env_runner=config.num_env_runners == 0,
    )
    if faults and all(faults):
        raise ValueError(
            f"environment.env={environment_name(config.env)} gives no prompt: {faults[0]}"
        )
