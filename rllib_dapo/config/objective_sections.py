"""Sections on the update: what is optimized, on which groups, and with which corrections."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.utils.annotations import override

from rllib_dapo.config.setting import settings_section
from rllib_dapo.core import (
    AdvantageEstimator,
    KLEstimator,
    LossAggregation,
    ObjectiveName,
    RatioLevel,
)
from rllib_dapo.learner.schedule import LRSchedule
from rllib_dapo.ray_internals import DEPRECATED_VALUE
from rllib_dapo.rollout.prompt_memory import PromptMemoryChoice

OptimizerName = Literal["adamw", "adamw_8bit", "deepspeed_cpu_adamw"]
OldLogprobs = Literal["trainer", "sampler"]
KLPlacement = Literal["loss", "reward"]
GuardAction = Literal["raise", "correct", "warn"]
OnShortfall = Literal["train_partial", "keep_uninformative", "reuse", "raise"]


class ObjectiveSections(AlgorithmConfig):
    """Everything between sampled groups and new weights."""

    @override(AlgorithmConfig)
    @settings_section(optimizer="optimizer_name", stall_seconds="update_stall_seconds")
    def training(
        self,
        *,
        optimizer: OptimizerName = NotProvided,
        lr: float = NotProvided,
        warmup_steps: float = NotProvided,
        lr_schedule: LRSchedule = NotProvided,
        lr_decay_updates: int | None = NotProvided,
        lr_end_fraction: float = NotProvided,
        weight_decay: float = NotProvided,
        adam_betas: tuple[float, float] = NotProvided,
        adam_epsilon: float = NotProvided,
        grad_clip: float | None = NotProvided,
        max_skipped_updates: int | None = NotProvided,
        stall_seconds: float | None = NotProvided,
        prompts_per_step: int = NotProvided,
        group_size: int = NotProvided,
        minibatch_size: int = NotProvided,
        objective: ObjectiveName | str | Callable[..., Any] = NotProvided,
        epsilon_low: float = NotProvided,
        epsilon_high: float = NotProvided,
        dual_clip: float | None = NotProvided,
        sapo_temperatures: tuple[float, float] = NotProvided,
        ratio_level: RatioLevel = NotProvided,
        loss_aggregation: LossAggregation = NotProvided,
        advantage_estimator: AdvantageEstimator | str | Callable[..., Any] = NotProvided,
        normalize_advantages_by_std: bool = NotProvided,
        gamma: float = NotProvided,
        entropy_coefficient: float = NotProvided,
        entropy_mask_fraction: float | None = NotProvided,
        token_mask: str | Callable[..., Any] | None = NotProvided,
        old_logprobs: OldLogprobs = NotProvided,
        max_tokens_per_microbatch: int = NotProvided,
        max_shared_row_tokens: int | Literal["auto"] = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Hyper-parameters of the update. Any of them may be a Tune search space.

        Args:
            optimizer: `adamw`; `adamw_8bit` keeps both moments in 8 bits (bitsandbytes), which
                takes 2 bytes per parameter in place of 8 and rounds; `deepspeed_cpu_adamw` keeps
                moments and float32 weights in main memory and steps there (DeepSpeed's
                ZeRO-Offload, stage 1 to 3). Source: paper 4.1; 2110.02861; 2101.06840.
            lr: Learning rate of AdamW. Source: paper 4.1.
            warmup_steps: Linear warm-up of the learning rate, in training steps (rollouts). Source:
                paper 4.1.
            lr_schedule: Course of the learning rate after the warm-up. Source: paper 4.1.
            lr_decay_updates: Optimizer steps from the end of the warm-up to the end of the decay;
                needed by `linear` and `cosine`, refused by `constant`.
            lr_end_fraction: Share of `lr` that remains at the end of the decay, in [0, 1].
            weight_decay: Weight decay of AdamW. Source: recipe.
            adam_betas: Decay rates of AdamW's two moments.
            adam_epsilon: Term in the denominator of AdamW's step.
            grad_clip: Bound on the global norm of the gradient; `null` for none. Source: recipe.
            max_skipped_updates: Optimizer steps in a row that may be left out since their gradient
                is not finite; with more the trial ends. `null` for no limit.
            stall_seconds: Longest time in which a Learner may make no progress in an update: no
                micro-batch ends. Then it hangs: it ends, says so, and the trial fails, to go on
                from its last checkpoint (`tune.max_failures`). `null` waits for ever.
            prompts_per_step: Number of informative groups that a training step wants. Source:
                paper 4.1.
            group_size: `G`, responses per prompt. Source: paper 4.1.
            minibatch_size: Responses per optimizer step; must divide `prompts_per_step *
                group_size`. **With one mini-batch per rollout the ratio is 1 and the clip bounds do
                nothing** (with `old_logprobs: sampler` it is 1 but for what the engine computes
                otherwise). Source: paper 4.1.
            objective: The loss of a token. `clip` is PPO's and DAPO's clipped one; `cispo` clips
                the weight of a token and keeps its gradient; `sapo` has a soft gate in place of a
                clip; `package.module:function`, or in Python a function, is one of your own.
                Formulas in `core/token_objectives.py`; settings that an objective does not read are
                refused. Source: paper Eq. 10; 2506.13585; 2511.20347.
            epsilon_low: Lower clip range: ratios are clipped to `1 - epsilon_low`. With `cispo` it
                may be 1, for no lower bound. Source: paper Eq. 10.
            epsilon_high: Upper clip range, Clip-Higher: ratios are clipped to `1 + epsilon_high`.
                Source: paper Eq. 10.
            dual_clip: Bound `c` on the loss of tokens with negative advantage, over 1; the recipe
                has 10. `null` for none; `clip` alone reads it. Source: 1912.09729.
            sapo_temperatures: How fast the gate of `sapo` closes, where the advantage is positive
                and where it is not. Source: 2511.20347.
            ratio_level: `token`, or `sequence` for one ratio per response, the geometric mean of
                its tokens' ratios (GSPO). Source: paper Eq. 10; 2507.18071 Eq. 7.
            loss_aggregation: How token losses become one number; formulas in
                `core/normalizer.py`. Source: paper Eq. 12.
            advantage_estimator: `group` subtracts the group's mean from the reward, `leave_one_out`
                the mean of the group's other responses (RLOO). `batch_std` subtracts the group's
                mean and divides by the deviation of all rewards of the batch,
                `reinforce_plus_plus_baseline` by that of all differences. `gae` uses a value model
                (PPO). `package.module:function`, or in Python a function, is one of your own.
                Source: paper Eq. 9; 2402.14740; 2508.08221; 2501.03262; 1506.02438.
            normalize_advantages_by_std: Divide advantages by the group's standard deviation; with
                `gae` by that of all tokens of the batch. `false` suits `group`, `leave_one_out` and
                `gae` alone. Source: paper Eq. 9; without: 2503.20783.
            gamma: Discount per token, for `gae` alone.
            entropy_coefficient: Factor on the mean entropy, which is subtracted from the loss; 0,
                the paper's, leaves it out.
            entropy_mask_fraction: Train only this share of a mini-batch's tokens, those of highest
                entropy, in (0, 1]; the source has 0.2. `null` trains all. Masks narrow the loss of
                the policy, its divergence and its entropy; a critic learns from all tokens, and
                the ratio of a whole response is that of all of them. Source: 2506.01939.
            token_mask: Chooses the tokens to train: `package.module:function`, or in Python a
                function. It is called with `response_ids`, `entropy` and `mask`, each `[B, T]`, and
                returns bool `[B, T]`. `null` trains all.
            old_logprobs: The ratio's denominator: `trainer` recomputes it, `sampler` takes the
                engine's.
            max_tokens_per_microbatch: Bound on a micro-batch's padded size, in tokens. It bounds
                memory and does not change the result. Within it, Learners have like work.
            max_shared_row_tokens: Responses of one prompt share its computation in rows of up to
                this many tokens; 0 computes the prompt anew for each response; `auto` shares where
                that is less work, attention and its mask included. Where a model would be computed
                otherwise, the check at the start takes 0.
            **kwargs: Other arguments of RLlib's own method.
        """
        super().training(**kwargs)
        return self

    @settings_section(
        coefficient="kl_coefficient",
        estimator="kl_estimator",
        placement="kl_placement",
        importance_ratio="kl_importance_ratio",
    )
    def kl(
        self,
        *,
        coefficient: float = NotProvided,
        estimator: KLEstimator = NotProvided,
        placement: KLPlacement = NotProvided,
        importance_ratio: bool = NotProvided,
    ) -> Self:
        """Divergence from the frozen model that training started from; DAPO has none, GRPO has.

        Args:
            coefficient: `beta`; GRPO has 0.04. At 0 no reference model is held. Source: paper 2.3.
            estimator: Estimator of the divergence. In the loss `k1` needs `importance_ratio`,
                because the mean of its own gradient is zero. Source: 2402.03300 Eq. 4.
            placement: `loss` adds it to the loss, `reward` subtracts it from the rewards. Source:
                2402.03300; 2203.02155.
            importance_ratio: Multiply each estimate in the loss by the token's ratio to the old
                policy, with its gradient: that of `k1` and `k3` is then unbiased, also after the
                first update of a rollout. Source: 2512.02556 Eq. 7.
        """
        return self

    @settings_section(
        cap="importance_cap",
        sequence_bounds="importance_sequence_bounds",
        token_bounds="importance_token_bounds",
    )
    def importance_sampling(
        self,
        *,
        cap: float | None = NotProvided,
        sequence_bounds: tuple[float, float] | None = NotProvided,
        token_bounds: tuple[float, float] | None = NotProvided,
        start_gap_limit: Any = DEPRECATED_VALUE,
        on_start_gap: Any = DEPRECATED_VALUE,
    ) -> Self:
        """Correction of the difference between the engine's probabilities and the trainer's.

        Args:
            cap: Truncated importance sampling: token losses are multiplied by
                `min(pi_trainer_old / pi_sampler, cap)`. At least 1; 2 is usual; `null` for none,
                but for 2 with `rollout.max_staleness`. Needs `old_logprobs: trainer`.
            sequence_bounds: `[low, high]` around 1: responses whose geometric mean of these ratios
                lies outside have no loss. `null` keeps all. Needs `old_logprobs: trainer`.
            token_bounds: `[low, high]` around 1: tokens whose own ratio lies outside have no loss.
                `[0.5, 5.0]` with `cap: 5.0` is IcePop, whose factor is the ratio inside and 0
                outside. `null` keeps all. Needs `old_logprobs: trainer`. Source: 2510.18855.
            start_gap_limit: Old name of `start_guard(limit=...)`.
            on_start_gap: Old name of `start_guard(action=...)`.
        """
        moved = {"limit": start_gap_limit, "action": on_start_gap}
        given = {name: value for name, value in moved.items() if value != DEPRECATED_VALUE}
        if given:
            warnings.warn(
                "importance_sampling(start_gap_limit=..., on_start_gap=...) is now "
                "start_guard(limit=..., action=...)",
                FutureWarning,
                stacklevel=3,
            )
            self.start_guard(**given)
        return self

    @settings_section(
        limit="start_gap_limit", action="on_start_gap", every_updates="guard_every_updates"
    )
    def start_guard(
        self,
        *,
        limit: float | Literal["auto"] | None = NotProvided,
        action: GuardAction = NotProvided,
        every_updates: int | None = NotProvided,
    ) -> Self:
        """A check from the start on: is what samples the same model as what is trained?

        Args:
            limit: Largest mean difference between trainer and sampler of a token's log-probability
                under the same weights, in nats. `auto` is 0.2 in bfloat16, whose rounding brings a
                few hundredths, and 0.00005 in float32. `null` does not look, and does not compare
                the engines' weights with the Learners' either.
            action: What is done beyond the limit: `raise` stops, `correct` switches truncated
                importance sampling on with a cap of 2, `warn` goes on. Where an engine holds other
                weights, `raise` stops, and the others warn.
            every_updates: Number of training steps (rollouts) after which both sides are compared
                again, after the start and the first update that has changed weights; `null` for
                never. Weights are compared bit for bit after each transfer in any case.
        """
        return self

    @settings_section(lr="critic_lr", warmup="critic_warmup")
    def critic(
        self,
        *,
        gae_lambda: float = NotProvided,
        value_loss_coefficient: float = NotProvided,
        value_clip: float | None = NotProvided,
        lr: float | None = NotProvided,
        warmup: int = NotProvided,
    ) -> Self:
        """The value model of `training.advantage_estimator: gae`; without it of no effect.

        Args:
            gae_lambda: Lambda of generalized advantage estimation: 0 trusts the values, 1 the
                rewards. Its discount is `training.gamma`. Source: 1506.02438 Eq. 16.
            value_loss_coefficient: Weight of the value loss beside the policy loss. Source:
                1707.06347.
            value_clip: How far a value may move in one update, in units of return; `null` for no
                bound. Source: 1707.06347.
            lr: Learning rate of the value head, with the same warm-up and decay as `training.lr`;
                `null` takes `training.lr`. The head begins with zeros, and a step moves each of its
                weights by about this much, so a value by up to about `lr` times the model's width:
                0.02 for 192, 0.4 for 4096.
            warmup: Training steps (rollouts) at the beginning in which the critic alone is trained,
                with its full rate from the first one; no weight of the language model changes.
                `training.warmup_steps` and the decay are counted from their end.
        """
        return self

    @settings_section(enabled="dynamic_sampling_enabled")
    def dynamic_sampling(
        self,
        *,
        enabled: bool = NotProvided,
        max_rounds: int = NotProvided,
        max_oversampling: float = NotProvided,
        on_shortfall: OnShortfall = NotProvided,
        max_rounds_without_verdict: int | None = NotProvided,
        max_steps_without_signal: int | None = NotProvided,
        prompt_memory: PromptMemoryChoice | None = NotProvided,
    ) -> Self:
        """Filtering of groups without a signal, and sampling until the batch is full.

        Args:
            enabled: Keep sampling until the batch is full of groups that are neither all right nor
                all wrong; `false` trains on every group. Source: paper Eq. 11.
            max_rounds: Largest number of groups that a batch is chosen from, in rounds of
                `max_oversampling` full batches (of one, where `enabled` is false). Source: recipe.
            max_oversampling: Largest ratio of groups under way to groups still wanted. Source:
                recipe.
            on_shortfall: What is done when the rounds are used up: `train_partial` trains on the
                groups there are, `keep_uninformative` fills the batch with groups without a signal,
                `reuse` with groups of earlier steps that `rollout.max_staleness` still allows (not
                after a resume), `raise` stops.
            max_rounds_without_verdict: Full batches of groups in a row in which no response gets a
                verdict, as when a reward server is down; one more ends the trial with the first
                reason. `null` goes on for ever.
            max_steps_without_signal: Training steps in a row that find no informative group among
                all that `max_rounds` allows, as when every answer is wrong; one more ends the trial
                and says what the groups were. `null` goes on for ever.
            prompt_memory: Visit prompts less often of which earlier visits let no signal expect:
                `plain` goes by how many in a row had none, `information` by how probable one is
                under the success rates seen, `pools` by an easy, a normal and a hard pool. None is
                visited less often than once in 16 times. Source: 2506.02177; 2507.04632.
        """
        return self

    @settings_section(
        buffer_tokens="overlong_buffer_tokens",
        penalty="overlong_penalty",
        filtering="overlong_filtering",
    )
    def overlong(
        self,
        *,
        buffer_tokens: int | None = NotProvided,
        penalty: float = NotProvided,
        filtering: bool = NotProvided,
        truncated_in_baseline: bool = NotProvided,
    ) -> Self:
        """What is done about responses that are too long: punishment, filtering, or both.

        Args:
            buffer_tokens: `L_cache`: the soft punishment grows over this many tokens before
                `rollout.max_response_tokens`. `null` takes the paper's 4096, but at most a fifth
                of `rollout.max_response_tokens`, as 4096 is of the paper's 20480; results have the
                number as `env_runners/overlong_buffer_tokens`. Source: paper Eq. 13.
            penalty: Factor on the soft punishment; 0 switches it off. Source: paper Eq. 13.
            filtering: Truncated responses have no loss. Source: paper 3.4.
            truncated_in_baseline: Whether the rewards of responses without loss count in their
                group's mean and standard deviation.
        """
        return self
