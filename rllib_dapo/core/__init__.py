"""The mathematics of DAPO as pure functions on tensors; needs torch and nothing else."""

from rllib_dapo.core.advantage import (
    ADVANTAGE_ESTIMATORS,
    BATCH_ESTIMATORS,
    AdvantageEstimator,
    batch_std_advantages,
    group_advantages,
    has_signal,
    reinforce_baseline_advantages,
)
from rllib_dapo.core.attention_mask import attention_mask
from rllib_dapo.core.batching import MicroBatchPlan, plan_minibatch
from rllib_dapo.core.chunked import chunked_logprobs
from rllib_dapo.core.collate import collate
from rllib_dapo.core.critic import generalized_advantages, terminal_rewards, value_loss, whiten
from rllib_dapo.core.kl import KL_ESTIMATORS, KLEstimator, kl_estimates, kl_with_ratio
from rllib_dapo.core.logit_adjustment import IDENTITY, LogitAdjustment
from rllib_dapo.core.logprob import logprob_and_entropy
from rllib_dapo.core.loss import dapo_policy_loss, policy_loss
from rllib_dapo.core.normalizer import LOSS_AGGREGATIONS, LossAggregation, response_weights
from rllib_dapo.core.objective import dapo_objective
from rllib_dapo.core.ratio import (
    RATIO_LEVELS,
    RatioLevel,
    importance_weights,
    log_ratios,
    sequence_ratios,
    sequences_within,
    token_ratios,
    tokens_within,
)
from rllib_dapo.core.reward import composite_reward, correctness_reward, soft_overlong_punishment
from rllib_dapo.core.row_work import RowWork
from rllib_dapo.core.rows import TrainResponse
from rllib_dapo.core.sampling_set import EVERY_TOKEN, SamplingSet
from rllib_dapo.core.token_mask import entropy_threshold, high_entropy_mask
from rllib_dapo.core.token_objectives import (
    OBJECTIVE_NAMES,
    OBJECTIVE_SETTINGS,
    OBJECTIVE_TENSORS,
    OBJECTIVES,
    ObjectiveName,
    TokenObjective,
    bind_objective,
    cispo_losses,
    clipped_losses,
    objective_arguments,
    sapo_losses,
)
from rllib_dapo.core.types import GroupSummary, PromptGroup, Response

__all__ = [
    "ADVANTAGE_ESTIMATORS",
    "BATCH_ESTIMATORS",
    "EVERY_TOKEN",
    "IDENTITY",
    "KL_ESTIMATORS",
    "LOSS_AGGREGATIONS",
    "OBJECTIVES",
    "OBJECTIVE_NAMES",
    "OBJECTIVE_SETTINGS",
    "OBJECTIVE_TENSORS",
    "RATIO_LEVELS",
    "AdvantageEstimator",
    "GroupSummary",
    "KLEstimator",
    "LogitAdjustment",
    "LossAggregation",
    "MicroBatchPlan",
    "ObjectiveName",
    "PromptGroup",
    "RatioLevel",
    "Response",
    "RowWork",
    "SamplingSet",
    "TokenObjective",
    "TrainResponse",
    "attention_mask",
    "batch_std_advantages",
    "bind_objective",
    "chunked_logprobs",
    "cispo_losses",
    "clipped_losses",
    "collate",
    "composite_reward",
    "correctness_reward",
    "dapo_objective",
    "dapo_policy_loss",
    "entropy_threshold",
    "generalized_advantages",
    "group_advantages",
    "has_signal",
    "high_entropy_mask",
    "importance_weights",
    "kl_estimates",
    "kl_with_ratio",
    "log_ratios",
    "logprob_and_entropy",
    "objective_arguments",
    "plan_minibatch",
    "policy_loss",
    "reinforce_baseline_advantages",
    "response_weights",
    "sapo_losses",
    "sequence_ratios",
    "sequences_within",
    "soft_overlong_punishment",
    "terminal_rewards",
    "token_ratios",
    "tokens_within",
    "value_loss",
    "whiten",
]
