"""When a trial ends, and the words in its last result that say why.

Tune says that a trial ended, not why. So one stopper knows both the limits of metrics and the rules
for what nobody wants to pay for (a policy that has collapsed onto one answer, one that babbles,
rewards that are missing), and writes the reason into the result before anything is logged. Where a
scheduler decided, a callback does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from ray import tune
from ray.rllib.utils.metrics import EPISODE_RETURN_MEAN
from ray.tune.experiment import Trial

from rllib_dapo.metrics.metric_table import ENTROPY
from rllib_dapo.run.search.option_checks import count, is_number
from rllib_dapo.run.search.race_milestones import dropped_reason

STOP_REASON = "stop_reason"


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRules:
    """What ends a trial that has gone wrong.

    Attributes:
        entropy_below: In nats. The policy has collapsed if its mean entropy is under this; None
            disables the rule.
        entropy_above: In nats. The policy has blown up if its mean entropy is over this, or NaN;
            None disables the rule.
        reward_nan: Whether to end a trial whose mean reward is not a number, because not one
            response of an iteration got a verdict.
        patience: Number of successive iterations for which a rule must be broken.
    """

    entropy_below: float | None = None
    entropy_above: float | None = None
    reward_nan: bool = False
    patience: int = 3


STOP_RULES = tuple(StopRules.__dataclass_fields__)


def check_stop_rule(name: str, value: Any) -> Iterator[str]:
    """A finding where a rule's value is of no use.

    Args:
        name: One of `STOP_RULES`.
        value: Value in the run file.

    Yields:
        At most one line.
    """
    if name == "reward_nan":
        if not isinstance(value, bool):
            yield f"stop.reward_nan={value!r} must be true or false"
    elif name == "patience":
        wanted = count(value)
        if wanted:
            yield f"stop.patience={value!r} must be {wanted}"
    elif value is not None and (not is_number(value) or value <= 0):
        yield f"stop.{name}={value!r} must be a number over 0, in nats, or null"


def check_stop_rules(rules: StopRules) -> Iterator[str]:
    """A finding where rules contradict each other."""
    low, high = rules.entropy_below, rules.entropy_above
    if low is not None and high is not None and low >= high:
        yield (
            f"stop.entropy_below={low} must be under stop.entropy_above={high}: no trial would go "
            "on"
        )


def broken_rules(result: Mapping[str, Any], rules: StopRules) -> dict[str, str]:
    """Finds the rules that a result breaks.

    Args:
        result: What `DAPO.train` returns.
        rules: The rules to check.

    Returns:
        What is wrong, in words, by name of the rule.
    """
    broken: dict[str, str] = {}

    # An iteration without an update says nothing about the entropy. RLlib reports as NaN what an
    # iteration did not log.
    learner = result.get("learners", {}).get("default_policy", {})
    if not math.isnan(learner.get("gradient_updates", math.nan)):
        entropy = learner.get(ENTROPY, math.nan)
        low, high = rules.entropy_below, rules.entropy_above
        if low is not None and entropy < low:
            broken["entropy_below"] = (
                f"entropy collapse: {entropy:.4g} nats, under stop.entropy_below={low:g}"
            )
        if high is not None and not entropy <= high:  # true for NaN too
            broken["entropy_above"] = (
                f"entropy blow-up: {entropy:.4g} nats, over stop.entropy_above={high:g}"
            )

    rollout = result.get("env_runners", {})
    if rules.reward_nan and not math.isfinite(rollout.get(EPISODE_RETURN_MEAN, math.nan)):
        missing = rollout.get("missing_reward_fraction", math.nan)
        broken["reward_nan"] = (
            f"reward is not a number: {missing:.0%} of the responses have no verdict"
        )
    return broken


class RunStopper(tune.Stopper):
    """Ends a trial at a metric's limit or by a rule, and writes the reason into its last result."""

    def __init__(self, *, limits: Mapping[str, float], rules: StopRules | None = None) -> None:
        """Begins without having seen any result.

        Args:
            limits: Value at which a trial ends, by metric as Tune names it.
            rules: See `StopRules`; by default none.
        """
        self._limits = dict(limits)
        self._rules = rules or StopRules()
        self._times_broken: defaultdict[tuple[str, str], int] = defaultdict(int)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether a trial ends with this result, which then holds `stop_reason`."""
        reason = self._limit_reached(result) or self._rule_broken(trial_id, result)
        if reason:
            result[STOP_REASON] = reason
        return bool(reason)

    def stop_all(self) -> bool:
        """Trials end one by one."""
        return False

    def _limit_reached(self, result: Mapping[str, Any]) -> str:
        for name, limit in self._limits.items():
            value = number_at(result, name)
            if value is not None and value >= limit:
                return f"{name} reached {limit:g}"
        return ""

    def _rule_broken(self, trial_id: str, result: Mapping[str, Any]) -> str:
        broken = broken_rules(result, self._rules)
        for rule in STOP_RULES:
            key = (trial_id, rule)
            self._times_broken[key] = self._times_broken[key] + 1 if rule in broken else 0
            if self._times_broken[key] >= self._rules.patience:
                return f"{broken[rule]}, for {self._rules.patience} iterations"
        return ""


class SchedulerReason(tune.Callback):
    """Says in the last result of a trial that the scheduler ended it."""

    def __init__(self, scheduler: str, *, max_t: float | None = None) -> None:
        """Remembers how the scheduler ends trials.

        Args:
            scheduler: Name of the scheduler.
            max_t: Iteration at which the scheduler ends every trial, if it does.
        """
        self._scheduler = scheduler
        self._max_t = math.inf if max_t is None else max_t

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Tune calls this when it has decided, and before the result is written anywhere."""
        if result.get("done"):
            at_end = result["training_iteration"] >= self._max_t
            if self._scheduler == "race" and not at_end:
                result.setdefault(STOP_REASON, dropped_reason(result["training_iteration"]))
            why = f"max_t of {self._max_t:g} iterations reached" if at_end else "others did better"
            # The stopper may have written its own reason.
            result.setdefault(STOP_REASON, f"{self._scheduler}: {why}")


def number_at(result: Mapping[str, Any], name: str) -> float | None:
    """The number under a name with slashes; None if there is none, or it is NaN."""
    value = _lookup(result, name)
    return float(value) if isinstance(value, Real) and not math.isnan(value) else None


def _lookup(tree: Any, name: str) -> Any:
    """The value under a name with slashes; None if there is none.

    A key may itself contain slashes, as those of reward components do, so every slash may or may
    not be the end of a key.
    """
    if not isinstance(tree, Mapping):
        return None
    if name in tree:
        return tree[name]
    cuts = [i for i, letter in enumerate(name) if letter == "/" and name[:i] in tree]
    found = (_lookup(tree[name[:i]], name[i + 1 :]) for i in cuts)
    return next((value for value in found if value is not None), None)
