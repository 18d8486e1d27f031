"""When a trial ends, and the words in its result that say why.

Beside metrics and their limits a run file's section `stop` may hold rules for what nobody wants to
pay for: a policy that has collapsed onto one answer, one that babbles, and rewards that are none.
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

STOP_REASON = "stop_reason"


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRules:
    """What ends a trial that has gone wrong.

    Attributes:
        entropy_below: The policy has collapsed: its mean entropy is under this, in nats; None does
            not look.
        entropy_above: The policy has blown up: its mean entropy is over this, or no number at all.
        reward_nan: The mean reward is no number, since not one response of an iteration got a
            verdict.
        patience: Iterations on end for which one of them must hold.
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
        value: As the run file has it.

    Yields:
        One line.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if name == "reward_nan":
        if not isinstance(value, bool):
            yield f"stop.reward_nan={value!r} must be true or false"
    elif name == "patience":
        if not is_number or value != int(value) or value < 1:
            yield f"stop.patience={value!r} must be a whole number of at least 1"
    elif value is not None and (not is_number or value <= 0):
        yield f"stop.{name}={value!r} must be a number over 0, in nats, or null"


def check_stop_rules(rules: StopRules) -> Iterator[str]:
    """A finding where rules contradict each other."""
    low, high = rules.entropy_below, rules.entropy_above
    if low is not None and high is not None and low >= high:
        yield f"stop.entropy_below={low} must be under stop.entropy_above={high}: nothing would go on"


def problems_of(result: Mapping[str, Any], rules: StopRules) -> dict[str, str]:
    """Which rules a result breaks, each with what is to be said of it.

    Args:
        result: As `DAPO.train` returns it. An iteration without an update says nothing of the
            entropy.
        rules: Those that matter.
    """
    found: dict[str, str] = {}
    learner = result.get("learners", {}).get("default_policy", {})
    entropy = learner.get(ENTROPY, math.nan)
    # RLlib reports as NaN what an iteration did not log.
    was_updated = not math.isnan(learner.get("gradient_updates", math.nan))
    if was_updated and rules.entropy_below is not None and entropy < rules.entropy_below:
        found["entropy_below"] = (
            f"entropy collapse: {entropy:.4g} nats, under stop.entropy_below={rules.entropy_below:g}"
        )
    if was_updated and rules.entropy_above is not None and not entropy <= rules.entropy_above:
        found["entropy_above"] = (
            f"entropy blow-up: {entropy:.4g} nats, over stop.entropy_above={rules.entropy_above:g}"
        )
    rollout = result.get("env_runners", {})
    if rules.reward_nan and not math.isfinite(rollout.get(EPISODE_RETURN_MEAN, math.nan)):
        missing = rollout.get("missing_reward_fraction", math.nan)
        found["reward_nan"] = f"reward is no number: {missing:.0%} of the responses have no verdict"
    return found


class RunStopper(tune.Stopper):
    """Ends a trial at a metric's limit or by a rule, and writes the reason into its last result."""

    def __init__(self, *, limits: Mapping[str, float], rules: StopRules | None = None) -> None:
        """Begins without having seen anything.

        Args:
            limits: Metric, as Tune names it, to the value at which a trial ends.
            rules: See `StopRules`; none by default.
        """
        self._limits = dict(limits)
        self._rules = rules or StopRules()
        self._on_end: defaultdict[tuple[str, str], int] = defaultdict(int)

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
            value = _at(result, name)
            if value is not None and value >= limit:
                return f"{name} reached {limit:g}"
        return ""

    def _rule_broken(self, trial_id: str, result: Mapping[str, Any]) -> str:
        found = problems_of(result, self._rules)
        for rule in STOP_RULES:
            key = (trial_id, rule)
            self._on_end[key] = self._on_end[key] + 1 if rule in found else 0
            if self._on_end[key] >= self._rules.patience:
                return f"{found[rule]}, for {self._rules.patience} iterations"
        return ""


class SchedulerReason(tune.Callback):
    """Writes into the last result of a trial that the scheduler ended, that it did."""

    def __init__(self, scheduler: str, *, max_t: float | None = None) -> None:
        """Remembers how the scheduler ends trials.

        Args:
            scheduler: Its name.
            max_t: The iteration at which it ends every trial, if there is one.
        """
        self._scheduler = scheduler
        self._max_t = math.inf if max_t is None else max_t

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Tune calls this when it has decided, and before anybody writes the result down."""
        if result.get("done"):
            at_end = result["training_iteration"] >= self._max_t
            why = f"max_t of {self._max_t:g} iterations reached" if at_end else "others did better"
            result.setdefault(STOP_REASON, f"{self._scheduler}: {why}")


def _at(result: Mapping[str, Any], name: str) -> float | None:
    """A number at a name with slashes, or None. Names themselves may hold slashes, as those of reward components do."""
    value = _lookup(result, name)
    return float(value) if isinstance(value, Real) and not math.isnan(value) else None


def _lookup(tree: Any, name: str) -> Any:
    if not isinstance(tree, Mapping):
        return None
    if name in tree:
        return tree[name]
    cuts = [i for i, letter in enumerate(name) if letter == "/" and name[:i] in tree]
    found = (_lookup(tree[name[:i]], name[i + 1 :]) for i in cuts)
    return next((value for value in found if value is not None), None)
