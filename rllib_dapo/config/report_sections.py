"""Sections of RLlib's that have settings of ours, on what a run measures and shows."""

from __future__ import annotations

from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.utils.annotations import override

from rllib_dapo.config.setting import settings_section


class ReportSections(AlgorithmConfig):
    """`evaluation`, `reporting`, `debugging`."""

    @override(AlgorithmConfig)
    @settings_section()
    def evaluation(
        self,
        *,
        evaluation_num_prompts: int = NotProvided,
        evaluation_samples_per_prompt: int = NotProvided,
        evaluation_temperature: float = NotProvided,
        evaluation_top_p: float = NotProvided,
        evaluation_sampling: dict[str, Any] = NotProvided,
        evaluate_before_training: bool = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Evaluation on the training EnvRunners' engines: no second engine is started.

        Args:
            evaluation_num_prompts: Number of problems: the evaluation environment's seeds from 0
                on.
            evaluation_samples_per_prompt: `k` of avg@k; the paper has 32. At temperature 0 all
                responses to a problem are equal, and each is asked once.
            evaluation_temperature: Sampling temperature; 0 always takes the likeliest token.
                Source: paper 4.1.
            evaluation_top_p: Nucleus. Source: paper 4.1.
            evaluation_sampling: What evaluations change of `rollout.sampling`, such as `{top_k:
                20}`; a value of null takes an option back to its default. Penalties, bad words and
                structured output are for evaluations alone.
            evaluate_before_training: Also evaluate once before the first update; reported with the
                first result.
            **kwargs: RLlib's: `evaluation_interval`, `evaluation_config` (what differs from
                training, such as `env_config`), ...
        """
        super().evaluation(**kwargs)
        return self

    @override(AlgorithmConfig)
    @settings_section()
    def reporting(
        self,
        *,
        sample_table_interval: int = NotProvided,
        sample_table_prompts: int = NotProvided,
        sample_table_responses: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """What a run shows of its responses, beside its curves.

        Args:
            sample_table_interval: Iterations between tables of the responses trained on; 0 keeps
                no tables, of evaluations neither.
            sample_table_prompts: Number of prompts in a table.
            sample_table_responses: Number of responses to each of them.
            **kwargs: RLlib's: `min_time_s_per_iteration`, ...
        """
        super().reporting(**kwargs)
        return self

    @override(AlgorithmConfig)
    @settings_section()
    def debugging(self, *, seed: int | None = NotProvided, **kwargs: Any) -> Self:
        """Reproducibility, and RLlib's logs.

        Args:
            seed: Seed of sampling, evaluation and Learners. `null` leaves the global generators of
                Python, NumPy and torch as they are; sampling is then that of seed 0.
            **kwargs: RLlib's: `log_level`, `logger_config`, ...
        """
        super().debugging(**kwargs)
        return self
