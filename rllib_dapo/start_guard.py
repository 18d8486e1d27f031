"""The guard, from the start on: do engine and Learner give the same probabilities, and if not, why?

A wrong temperature, raw instead of processed log-probabilities, a weight that did not arrive: none
of it raises, and no loss curve shows it. So both sides are compared before the first update, after
the first one that has changed weights, and now and then from there on. They are compared on
responses that the engines have just sampled with the Learners' weights: as they are, at temperature
1, and in float32. A gap that shrinks under one of these is put down to it. The default
limit is well over what rounding brings: 0.2 nats in bfloat16, which brings a few hundredths, and
0.00005 in float32, which brings a few millionths.

Before that, right at the start, both are compared on made-up prompts that are longer than every
window of the model's attention. Where vLLM and transformers compute two models, that shows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.learner.logprob_gap import GapReport
from rllib_dapo.learner.sampler_correction import USUAL_CAP
from rllib_dapo.models import load_tokenizer, resolve_model
from rllib_dapo.planning import plan_scoring

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.rollout.rollout_result import SampledGroup

logger = logging.getLogger(__name__)

# How many groups are scored: a few hundred tokens give a mean that is precise enough.
GUARD_GROUPS = 4

# Length of a made-up prompt, where no window asks for more, and the room behind one for a response.
MADE_UP_TOKENS, MADE_UP_ROOM = 16, 8

# `start_guard.limit: auto`: well over what rounding brings.
AUTO_LIMITS = {"bfloat16": 0.2, "float32": 5e-5, "float64": 5e-5}

# A gap that an assumption explains must shrink to this share of itself under it.
EXPLAINED = 0.5

CHANGES_SAMPLING = (
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)


class StartGuard:
    """Compares engine and Learner before the first update, after the first change, and later on."""

    def __init__(self, config: DAPOConfig) -> None:
        """Waits for the first update, unless `start_guard.limit` is None.

        Args:
            config: The algorithm's configuration.
        """
        self._config = config
        self._limit = gap_limit(config)
        self._is_due = self._limit is not None
        self._corrects = self._has_spoken = False
        # The version that was looked at last, the weights' fingerprint then, and whether any update
        # has changed them: the first ones of a warm-up may not.
        self._looked_at: int | None = None
        self._fingerprint: list[int] | None = None
        self._has_changed = False

    def is_time(self, learner_group: LearnerGroup, *, version: int) -> bool:
        """Whether to look before the next update.

        That is before the first update, after the first one that has changed weights, and every
        `start_guard.every_updates`.

        Args:
            learner_group: The Learners.
            version: Version of their weights.
        """
        if self._limit is None or self._has_spoken:
            return False

        # A batch may have nothing that can be compared; then the next one is looked at.
        self._is_due |= self._is_first_change(learner_group)
        if self._looked_at is None and not self._is_due:  # a checkpoint that does not say
            self._looked_at = version
        every = self._config.guard_every_updates
        has_waited = (
            every is not None and self._looked_at is not None and version - self._looked_at >= every
        )
        return self._is_due or has_waited

    def check(
        self, learner_group: LearnerGroup, groups: Sequence[SampledGroup], *, version: int
    ) -> None:
        """Has the Learners score a few groups.

        A gap over `start_guard.limit` stops the run, is corrected or is warned of, as
        `start_guard.action` says.

        Args:
            learner_group: Learners with the weights that `groups` were sampled with.
            groups: Groups that are about to be trained on.
            version: Version of these weights.

        Raises:
            RuntimeError: If engine and Learner are too far apart and `start_guard.action` is
                `"raise"`; one line.
        """
        self._is_due = False
        self._looked_at = version
        self._compare(learner_group, groups[:GUARD_GROUPS])

    def _is_first_change(self, learner_group: LearnerGroup) -> bool:
        """Whether the weights differ, for the first time, from those at the first call."""
        if self._has_changed:
            return False
        found = ask_learners(learner_group, lambda learner: learner.fingerprint())
        self._has_changed = self._fingerprint is not None and found != self._fingerprint
        self._fingerprint = self._fingerprint or found
        return self._has_changed

    def probe(
        self,
        learner_group: LearnerGroup,
        env_runner_group: EnvRunnerGroup,
        before_scoring: Callable[[], None],
    ) -> None:
        """The same on made-up prompts, before anything is sampled for training.

        Args:
            learner_group: The Learners.
            env_runner_group: EnvRunners whose engines have the Learners' weights.
            before_scoring: Called when engines have sampled, before Learners score.

        Raises:
            RuntimeError: As `check`; or if an engine cannot run the model.
        """
        if not self._is_due:
            return

        config = self._config
        longest = config.max_prompt_tokens + config.max_response_tokens
        window = ask_learners(learner_group, lambda learner: learner.policy_module.longest_window)[
            0
        ]
        if window is None or window >= longest:  # or no sequence is long enough for it
            window = MADE_UP_TOKENS
        prompt_tokens = max(1, min(window, longest - MADE_UP_ROOM))
        sampled = env_runner_group.foreach_env_runner(
            lambda runner: runner.sample_made_up(prompt_tokens=prompt_tokens),
            local_env_runner=config.num_env_runners == 0,
        )
        for reason in sampled:
            if isinstance(reason, str):
                raise RuntimeError(reason)
        groups = [group for group in sampled if group is not None]
        if groups:
            before_scoring()
            self._compare(learner_group, groups[:GUARD_GROUPS])

    def _compare(self, learner_group: LearnerGroup, groups: Sequence[SampledGroup]) -> None:
        config = self._config
        shards = plan_scoring(groups, config)
        report = ask_learners(learner_group, lambda learner: learner.measure_sampler_gap(shards))[0]
        if self._limit is None or report.mean <= self._limit:
            return

        self._is_due, self._has_spoken = False, True  # said once
        line = self._explain(report, groups[0])
        if config.on_start_gap == "raise":
            raise RuntimeError(
                f'{line}; start_guard.action="correct" trains with truncated importance sampling '
                "instead"
            )
        logger.warning(line)

        if config.on_start_gap == "correct":
            logger.warning(
                "truncated importance sampling is on from here, with a cap of %s", USUAL_CAP
            )
            self._set_correction(True, learner_group)

    def _set_correction(self, corrects: bool, learner_group: LearnerGroup) -> None:
        self._corrects = corrects
        cap = USUAL_CAP if corrects else self._config.applied_importance_cap
        ask_learners(learner_group, lambda learner: setattr(learner, "importance_cap", cap))

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint keeps: when the guard has looked, and what it has switched on."""
        return {
            "is_due": self._is_due,
            "corrects": self._corrects,
            "has_spoken": self._has_spoken,
            "looked_at": self._looked_at,
            "has_changed": self._has_changed,
        }

    def set_state(self, state: Mapping[str, Any], learner_group: LearnerGroup) -> None:
        """Goes on as the run that wrote the checkpoint would have.

        Args:
            state: See `get_state`.
            learner_group: Learners that have restored the same checkpoint.
        """
        self._is_due = state["is_due"] and self._limit is not None
        # A checkpoint of an earlier version has neither of these.
        self._has_spoken = state.get("has_spoken", state["corrects"])
        self._looked_at = state.get("looked_at")
        self._has_changed = state.get("has_changed", not state["is_due"])
        self._fingerprint = None
        self._set_correction(state["corrects"], learner_group)

    def _explain(self, report: GapReport, sampled: SampledGroup) -> str:
        config = self._config
        tokenizer = load_tokenizer(
            resolve_model(str(config.model_name)), **config.tokenizer_settings
        )
        line = describe_gap(
            report,
            config,
            prompt_ids=sampled.group().prompt_ids.tolist(),
            bos_token_id=tokenizer.bos_token_id,
        )
        return f"{line}. The limit is start_guard.limit={self._limit:g}"


def sampled_with(version: int, groups: Sequence[SampledGroup]) -> list[SampledGroup]:
    """Groups that can be compared: no token of them was sampled with other weights.

    Args:
        version: Version of the Learners' weights.
        groups: Groups that are about to be trained on.
    """
    return [group for group in groups if set(group.summary.tokens_by_version) <= {version}]


def gap_limit(config: DAPOConfig) -> float | None:
    """Largest mean difference per token that goes on, in nats; None if nothing is compared.

    Args:
        config: The algorithm's configuration.
    """
    if config.start_gap_limit == "auto":
        return AUTO_LIMITS[config.model_dtype]
    return config.start_gap_limit


def describe_gap(
    report: GapReport, config: DAPOConfig, *, prompt_ids: list[int], bos_token_id: int | None
) -> str:
    """One line: how large the gap is and what it probably comes from.

    Args:
        report: What the Learners measured.
        config: The algorithm's configuration.
        prompt_ids: Token ids of a prompt as it was sent to the engine.
        bos_token_id: The model's beginning-of-sequence token, None if it has none.
    """
    return (
        f"engine and Learner differ by {report.mean:.3g} nats per token in the mean and "
        f"{report.largest:.3g} at most, over {report.tokens} tokens sampled with the same weights; "
        f"probable cause: {_cause(report, config, prompt_ids, bos_token_id)}"
    )


def _cause(
    report: GapReport, config: DAPOConfig, prompt_ids: list[int], bos_token_id: int | None
) -> str:
    """The first cause that fits, those that the report proves or the settings name before others.

    Weights come last: they are what is left if nothing else fits.
    """
    limit = EXPLAINED * report.mean

    if config.temperature != 1.0 and report.at_temperature_one < limit:
        return (
            "raw log-probabilities: the engine reports them as before "
            f"rollout.temperature={config.temperature}; take logprobs_mode out of "
            "rollout.engine_kwargs"
        )

    changed = [name for name in CHANGES_SAMPLING if name in config.engine_kwargs]
    if changed:
        return (
            "the engine samples from another distribution than the policy: take "
            f"{', '.join(changed)} out of rollout.engine_kwargs; what Learners can compute too is "
            "in rollout.top_p and rollout.sampling"
        )

    if bos_token_id is not None and list(prompt_ids[:2]) == [bos_token_id] * 2:
        return (
            f"a doubled beginning-of-sequence token (id {bos_token_id}) in front of the prompt: "
            "the chat template and the tokenizer both write one"
        )

    if report.in_float32 is not None and report.in_float32 < limit:
        return (
            f"language_model.dtype={config.model_dtype}: in float32 the gap would be "
            f"{report.in_float32:.3g}"
        )

    if "quantization" in config.engine_kwargs or "kv_cache_dtype" in config.engine_kwargs:
        return "the engine is quantised (rollout.engine_kwargs) and the Learner is not"

    return (
        "weights: the engine's are not the Learner's (an update that did not arrive, or a model "
        "that vLLM and transformers compute differently)"
    )
