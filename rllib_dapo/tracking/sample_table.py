"""Writes tables of sampled responses beside a trial's results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from rllib_dapo.core.types import GroupSummary, PromptGroup
from rllib_dapo.rollout.rollout_stream import RolloutResult, SampledGroup
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
    """Every few iterations, some prompts with some responses to each, their verdicts and rewards.

    One JSONL file and one TensorBoard event file an iteration, in the folder `samples` of the
    trial. With evaluations it is the same prompts each time, which shows how the answers to one
    prompt change; of training it is prompts spread over those sampled last. Only what is shown is
    fetched from the EnvRunners. `DAPOConfig.reporting` says how much.
    """

    def __init__(self) -> None:
        """Nothing has been evaluated."""
        self._evaluated: list[Sample] = []

    def keep_evaluation(self, algorithm: DAPO, results: Sequence[RolloutResult]) -> None:
        """Keeps the first prompts' responses until the iteration ends.

        Args:
            algorithm: Whose weights were evaluated.
            results: The evaluation's.
        """
        config = algorithm.config
        if not config.sample_table_interval:
            return
        before_training = config.evaluate_before_training and algorithm._evaluation_at_start is None
        iteration = algorithm.iteration + (0 if before_training else 1)
        self._evaluated += _samples(
            _by_seed(results)[: config.sample_table_prompts], config, iteration, "evaluation"
        )

    def write(
        self, algorithm: DAPO, results: Sequence[RolloutResult], result: Mapping[str, Any]
    ) -> None:
        """Writes the tables that are due.

        Args:
            algorithm: Has the settings, and knows its trial's folder.
            results: Those of the sampling of this iteration.
            result: The iteration's.
        """
        config, iteration = algorithm.config, result["training_iteration"]
        evaluated, self._evaluated = self._evaluated, []
        early = [sample for sample in evaluated if sample.iteration < iteration]
        if early:
            _write(algorithm, early, {}, iteration=early[0].iteration)
        rows = evaluated[len(early) :]
        histograms: dict[str, list[float]] = {}
        interval = config.sample_table_interval
        if interval and (iteration % interval == 0 or iteration == 1):
            groups = _by_seed(results)
            answered = [group for group in groups if group.summary.rewards]
            rows = (
                _samples(
                    spread(answered, config.sample_table_prompts), config, iteration, "training"
                )
                + rows
            )
            histograms = distributions([group.summary for group in groups])
        if rows or histograms:
            _write(algorithm, rows, histograms, iteration=iteration)


def distributions(groups: Sequence[GroupSummary]) -> dict[str, list[float]]:
    """What TensorBoard shows as histograms: of responses their lengths and rewards, of prompts their accuracy."""
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


def _by_seed(results: Iterable[RolloutResult]) -> list[SampledGroup]:
    return sorted(
        (group for result in results for group in result.groups),
        key=lambda group: group.summary.seed,
    )


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
    """A group, or nothing where the EnvRunner that held it is gone: a table must not end a run that goes on."""
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
    folder = trial_folder(algorithm._storage, algorithm.logdir, FOLDER)
    folder.filesystem.create_dir(folder.path, recursive=True)
    files = {
        f"iteration_{iteration:06d}{SUFFIX}": to_jsonl(samples).encode("utf-8", errors="replace"),
        event_file_name(iteration): event_file(samples, histograms, iteration=iteration),
    }
    for name, content in files.items():
        with folder.filesystem.open_output_stream(f"{folder.path}/{name}") as file:
            file.write(content)
