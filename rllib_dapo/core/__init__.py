"""The mathematics of DAPO: torch only, importable on its own."""

from rllib_dapo.core.advantage import group_advantages, has_signal
from rllib_dapo.core.batching import MicroBatchPlan, TrainResponse, attention_mask, collate, plan_minibatch
from rllib_dapo.core.logprob import chunked_logprobs, logprob_and_entropy
from rllib_dapo.core.loss import dapo_policy_loss, token_ratios
from rllib_dapo.core.normalizer import LOSS_AGGREGATIONS, LossAggregation, response_weights
from rllib_dapo.core.reward import soft_overlong_punishment
from rllib_dapo.core.types import GroupSummary, PromptGroup, Response

__all__ = [
    "LOSS_AGGREGATIONS",
    "GroupSummary",
    "LossAggregation",
    "MicroBatchPlan",
    "PromptGroup",
    "Response",
    "TrainResponse",
    "attention_mask",
    "chunked_logprobs",
    "collate",
    "dapo_policy_loss",
    "group_advantages",
    "has_signal",
    "logprob_and_entropy",
    "plan_minibatch",
    "response_weights",
    "soft_overlong_punishment",
    "token_ratios",
]
