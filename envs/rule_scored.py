"""Environments whose problems have one right answer, compared by one of the answer rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rllib_dapo.envs.base import Problem, SingleStepTextEnv, Verdict
from rllib_dapo.envs.env_settings import is_finite_number
from rllib_dapo.envs.verify import ANSWER_RULES, SLOW_RULES, check_rule
from rllib_dapo.envs.verify.sent_rule import Rule


class RuleScoredEnv(SingleStepTextEnv):
    """Scores by the rule that the setting `answer_rule` names.

    A subclass has that setting and writes `problem`. If it has the setting `tolerance` too, that is
    the tolerance of the rule `numeric`.

    Raises:
        ValueError: If either setting is refused.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.rule = check_rule("answer_rule", self.settings["answer_rule"])
        self.needs_process = self.rule in SLOW_RULES

        tolerance = self.settings.get("tolerance", 0.0)
        if not is_finite_number(tolerance) or tolerance < 0:
            raise ValueError(f"tolerance={tolerance!r}: must be a number, at least 0")
        self._rule_settings = (float(tolerance),) if self.rule == "numeric" else ()

    def score(self, problem: Problem, response: str) -> Verdict:
        """Judges a response by the rule."""
        return ANSWER_RULES[self.rule](*self._rule_arguments(problem, response))

    def scoring_rule(self) -> Rule:
        """Returns the rule's name, by which every process of the pool knows it.

        A subclass with a `score` of its own is scored by that.
        """
        return super().scoring_rule() if self._has_own_score else self.rule

    def scoring_arguments(self, problem: Problem, response: str) -> tuple[str | float, ...]:
        """Returns what the scoring rule is called with."""
        if self._has_own_score:
            return super().scoring_arguments(problem, response)
        return self._rule_arguments(problem, response)

    @property
    def _has_own_score(self) -> bool:
        return type(self).score is not RuleScoredEnv.score

    def _rule_arguments(self, problem: Problem, response: str) -> tuple[str | float, ...]:
        """Returns the response, the ground truth, and the rule's own settings."""
        return response, problem.answer, *self._rule_settings
