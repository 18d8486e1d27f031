"""Tables of sampled responses beside a trial's results.

They are written by the algorithm and not by an RLlib callback, so that a user's own callbacks do
not displace them. Each table is a file of its own: nothing is appended, so a bucket can serve as
storage, and a resumed run replaces the tables that it writes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from rllib_dapo.core.types import GroupSummary, PromptGroup
from rllib_dapo.ray_internals import trial_storage
from rllib_dapo.rollout.rollout_result import SampledGroup
from rllib_dapo.tracking.sample_record import (
    FOLDER,
    SUFFIX,
    Sample,
    Source,
    samples_of,
    spread,
    to_jsonl,
)
from rllib_dapo.tracking.tensorboard import event_file, event_file_name
from rllib_dapo.tracking.trial_folder import trial_folder

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm

    from rllib_dapo.algorithm import DAPO
    from rllib_dapo.config.dapo_config import DAPOConfig


class SampleTable:
    """Writes some prompts with some of their responses, verdicts and rewards every few iterations.

    Each iteration has one JSONL file and one TensorBoard event file in the trial's folder
    `samples`. Evaluations show the same prompts each time, so that one can see how the responses to
    a prompt change. Training shows prompts spread over those that were sampled last. Only what is
    shown is fetched from the EnvRunners. `DAPOConfig.reporting` sets how much that is.
    """

    def __init__(self) -> None:
        """Begins without samples of an evaluation."""
        self._evaluated: list[Sample] = []

    def keep_evaluation(self, algorithm: DAPO, groups: Iterable[SampledGroup]) -> None:
        """Keeps the responses to the first prompts until the iteration ends.

        Args:
            algorithm: Algorithm whose weights were evaluated.
            groups: The evaluation's groups.
        """
        config = algorithm.config
        if not config.sample_table_interval:
            return

        before_training = config.evaluate_before_training and algorithm.evaluation_at_start is None
        iteration = algorithm.iteration + (0 if before_training else 1)
        shown = _by_seed(groups)[: config.sample_table_prompts]
        self._evaluated += _samples(shown, config, iteration, "evaluation")

    def write(
        self, algorithm: DAPO, groups: Iterable[SampledGroup], result: Mapping[str, Any]
    ) -> None:
        """Writes the tables that are due.

        Args:
            algorithm: Provides the settings and the trial's folder.
            groups: Those that this iteration's batch was chosen from.
            result: Result of this iteration.
        """
        config, iteration = algorithm.config, result["training_iteration"]

        # The evaluation before training has a table of its own, for iteration 0.
        evaluated, self._evaluated = self._evaluated, []
        early = [sample for sample in evaluated if sample.iteration < iteration]
        if early:
            _write(algorithm, early, {}, iteration=early[0].iteration)

        rows = evaluated[len(early) :]
        histograms: dict[str, list[float]] = {}
        interval = config.sample_table_interval
        if interval and (iteration % interval == 0 or iteration == 1):
            ordered = _by_seed(groups)
            sampled = [group for group in ordered if group.summary.rewards]
            shown = spread(sampled, config.sample_table_prompts)
            rows = _samples(shown, config, iteration, "training") + rows
            histograms = distributions([group.summary for group in ordered])

        if rows or histograms:
            _write(algorithm, rows, histograms, iteration=iteration)


def distributions(groups: Sequence[GroupSummary]) -> dict[str, list[float]]:
    """Values for TensorBoard's histograms, by name.

    Args:
        groups: Summaries of all groups that were sampled.

    Returns:
        Lengths and rewards of responses, and accuracies of prompts. A name without any value is
        left out.
    """
    rewards = np.array([reward for group in groups for reward in group.rewards])
    verdicts = [[c for c in group.is_correct if c is not None] for group in groups]
    found = {
        "distributions/response_length": [
            float(n) for group in groups for n in group.response_tokens
        ],
        "distributions/reward": rewards[~np.isnan(rewards)].tolist(),
        "distributions/accuracy_of_prompt": [
            sum(known) / len(known) for known in verdicts if known
        ],
    }
    return {name: values for name, values in found.items() if values}


def _by_seed(groups: Iterable[SampledGroup]) -> list[SampledGroup]:
    return sorted(groups, key=lambda group: group.summary.seed)


def _samples(
    groups: Sequence[SampledGroup], config: DAPOConfig, iteration: int, source: Source
) -> list[Sample]:
    found = (_fetch(group) for group in groups)
    return [
        sample
        for group in found
        if group is not None
        for sample in samples_of(
            group, iteration=iteration, source=source, limit=config.sample_table_responses
        )
    ]


def _fetch(group: SampledGroup) -> PromptGroup | None:
    """Fetches a group; returns None if the EnvRunner that held it is gone."""
    # A lost table must not end a run that can continue.
    try:
        return group.group()
    except ray.exceptions.ObjectLostError:
        return None


def _write(
    algorithm: Algorithm,
    samples: Sequence[Sample],
    histograms: dict[str, list[float]],
    *,
    iteration: int,
) -> None:
    folder = trial_folder(trial_storage(algorithm), algorithm.logdir, FOLDER)
    folder.filesystem.create_dir(folder.path, recursive=True)

    files = {
        f"iteration_{iteration:06d}{SUFFIX}": to_jsonl(samples).encode("utf-8", errors="replace"),
        event_file_name(iteration): event_file(samples, histograms, iteration=iteration),
    }
    for name, content in files.items():
        with folder.filesystem.open_output_stream(f"{folder.path}/{name}") as file:
            file.write(content)
