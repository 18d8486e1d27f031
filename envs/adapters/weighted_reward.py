"""A reward that is the weighted sum of its components."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from rllib_dapo.envs.adapters.called_functions import GroupSource, raised
from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.verify.sent_rule import RULE_PATIENCE, SentRule, prepare
from rllib_dapo.envs.verify.verdict import Verdict

FUNCTIONS = ("function", "group")
ASKED = ("judge", "reward_model")  # behind HTTP


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """One part of a reward.

    Attributes:
        name: Name under which it is reported.
        kind: One of "rule", "slow rule", "function", "group", "code", "regex", "keywords",
            "classifier", "judge" and "reward_model".
        weight: Factor of its value in the sum.
        source: What judges responses.
        is_async: Whether the source has to be awaited.
        columns: Names of the columns of a problem that it cannot do without.
        least_seconds: Time that it may take, whatever the deadline: it has limits of its own.
    """

    name: str
    kind: str
    weight: float
    source: GroupSource
    is_async: bool = False
    columns: tuple[str, ...] = ()
    least_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightedReward:
    """The weighted sum of its components.

    Attributes:
        components: At least one.
        success_at: Least sum of a response that counts as correct. None: the first component that
            knows correct from wrong decides, and if none does, the reward is a mere grade.
    """

    components: tuple[Component, ...]
    success_at: float | None = None

    @property
    def needs_process(self) -> bool:
        """Whether it runs what may hang or takes long: a function, a program, a library's rule.

        A classifier cannot hang, and is too large for the processes that score.
        """
        kinds = self._kinds
        return bool(kinds & {*FUNCTIONS, "code", "slow rule"}) and "classifier" not in kinds

    @property
    def has_rule(self) -> bool:
        """Whether a component compares the response with the ground truth."""
        return bool(self._kinds & {"rule", "slow rule"})

    @property
    def has_code(self) -> bool:
        """Whether a component runs programs, so that every problem needs tests."""
        return "code" in self._kinds

    @property
    def scores_groups(self) -> bool:
        """Whether a component wants all responses to a prompt at once."""
        return "group" in self._kinds

    @property
    def is_async(self) -> bool:
        """Whether a component has to be awaited."""
        return any(part.is_async for part in self.components)

    @property
    def patience(self) -> float:
        """How many times the deadline of a function it may take, see `SentRule`."""
        kinds = self._kinds
        if "slow rule" not in kinds:
            return 1.0
        return 2.0 if kinds & set(FUNCTIONS) else RULE_PATIENCE

    @property
    def _kinds(self) -> set[str]:
        return {part.kind for part in self.components}

    @property
    def columns(self) -> set[str]:
        """Names of the columns of a problem that components cannot do without."""
        return {name for part in self.components for name in part.columns}

    def parts(self, *, judges: bool) -> WeightedReward:
        """Returns the reward of judges and reward models alone, or of all else; perhaps nothing."""
        kept = tuple(part for part in self.components if (part.kind in ASKED) is judges)
        return replace(self, components=kept)

    def __call__(self, problem: Problem, response: str) -> Verdict:
        """Judges one response."""
        return self.judge(problem, [response])[0]

    def judge(self, problem: Problem, responses: Sequence[str]) -> list[Verdict]:
        """Judges responses to one problem; all of them, where a component wants the group.

        If one component has no verdict on a response there is none at all: it is never a silent 0.

        Returns:
            The verdicts, with each component's own value by name, before its weight; NaN for one
            without a verdict.
        """
        if self.is_async:
            return asyncio.run(self.judge_async(problem, responses))
        return self.combined(self.found(problem, responses))

    async def judge_async(self, problem: Problem, responses: Sequence[str]) -> list[Verdict]:
        """Does what `judge` does; what has to be awaited runs side by side."""
        return self.combined(await self.found_async(problem, responses))

    def found(self, problem: Problem, responses: Sequence[str]) -> dict[str, Sequence[Verdict]]:
        """Returns what each component says, none of which has to be awaited."""
        return {part.name: part.source(problem, responses) for part in self.components}  # type: ignore[misc]

    async def found_async(
        self, problem: Problem, responses: Sequence[str]
    ) -> dict[str, Sequence[Verdict]]:
        """Returns what each component says; what has to be awaited runs side by side."""
        given = {part.name: part.source(problem, responses) for part in self.components}
        awaited = {name: one for name, one in given.items() if isinstance(one, Awaitable)}
        results = await asyncio.gather(*awaited.values())
        return {**given, **dict(zip(awaited, results, strict=True))}  # type: ignore[dict-item]

    def apart(self, problem: Problem, responses: Sequence[str]) -> list[Verdict]:
        """Returns the verdicts of the first component, then those of the second, and so on.

        A component that raises has none, and costs the others nothing.
        """
        if self.is_async:
            return asyncio.run(self.apart_async(problem, responses))
        return [*chain.from_iterable(_call(part, problem, responses) for part in self.components)]

    async def apart_async(self, problem: Problem, responses: Sequence[str]) -> list[Verdict]:
        """Does what `apart` does; what has to be awaited runs side by side."""
        calls = (_call_async(part, problem, responses) for part in self.components)
        return [*chain.from_iterable(await asyncio.gather(*calls))]

    def combined(self, found: Mapping[str, Sequence[Verdict]]) -> list[Verdict]:
        """Adds up what the components say of each response.

        Args:
            found: The verdicts of each component, by its name.
        """
        rows = zip(*(found[part.name] for part in self.components), strict=True)
        names = [part.name for part in self.components]
        return [self._sum(dict(zip(names, row, strict=True))) for row in rows]

    def _sum(self, verdicts: Mapping[str, Verdict]) -> Verdict:
        values = {name: _value(verdict) for name, verdict in verdicts.items()}
        prediction = next(
            (verdict.prediction for verdict in verdicts.values() if verdict.prediction), ""
        )
        components = values | _named(verdicts, "components")
        metrics = _named(verdicts, "metrics")

        lacking = [
            f"{verdicts[name].reason} ({name})"
            for name, value in values.items()
            if math.isnan(value)
        ]
        if lacking:
            return Verdict(
                is_correct=None,
                prediction=prediction,
                reason="; ".join(lacking),
                components=components,
                metrics=metrics,
            )

        total = sum(part.weight * values[part.name] for part in self.components)
        known = (
            verdict.is_correct for verdict in verdicts.values() if verdict.is_correct is not None
        )
        is_correct = next(known, None) if self.success_at is None else total >= self.success_at
        return Verdict(
            is_correct=is_correct,
            reward=total,
            prediction=prediction,
            components=components,
            metrics=metrics,
        )

    def sent_rule(self, *, apart: bool = False) -> SentRule:
        """Returns what processes call: with `texts_of`, and with a response.

        Where a component wants the group, the last is all responses as JSON, and the result a list.

        Args:
            apart: Whether the components' own verdicts are wanted, and not their sum: a list with
                those of the first component and so on, for all responses as JSON.
        """
        if apart:
            function: Callable[..., Any] = self._apart_async if self.is_async else self._apart
        else:
            function = self._of_texts_async if self.is_async else self._of_texts
        return prepare(
            function,
            patience=self.patience,
            least_seconds=math.fsum(part.least_seconds for part in self.components),
            is_async=self.is_async,
        )

    def _of_texts(self, *texts: str) -> Verdict | list[Verdict]:
        problem, responses = _read(*texts)
        if self.scores_groups:
            return self.judge(problem, json.loads(responses))
        return self.judge(problem, [responses])[0]

    async def _of_texts_async(self, *texts: str) -> Verdict | list[Verdict]:
        problem, responses = _read(*texts)
        if self.scores_groups:
            return await self.judge_async(problem, json.loads(responses))
        return (await self.judge_async(problem, [responses]))[0]

    def _apart(self, *texts: str) -> list[Verdict]:
        problem, responses = _read(*texts)
        return self.apart(problem, json.loads(responses))

    async def _apart_async(self, *texts: str) -> list[Verdict]:
        problem, responses = _read(*texts)
        return await self.apart_async(problem, json.loads(responses))


def texts_of(problem: Problem) -> tuple[str, ...]:
    """Returns a problem as texts, which travel to processes."""
    columns = json.dumps(dict(problem.columns), ensure_ascii=False)
    return problem.text, problem.answer, problem.problem_id, columns


def _read(
    prompt: str, answer: str, problem_id: str, columns: str, responses: str
) -> tuple[Problem, str]:
    problem = Problem(
        prompt=prompt, answer=answer, problem_id=problem_id, columns=json.loads(columns)
    )
    return problem, responses


def _call(part: Component, problem: Problem, responses: Sequence[str]) -> Sequence[Verdict]:
    try:
        return part.source(problem, responses)  # type: ignore[return-value]  # it is not awaited
    except Exception as error:
        return [raised(error)] * len(responses)


async def _call_async(
    part: Component, problem: Problem, responses: Sequence[str]
) -> Sequence[Verdict]:
    try:
        given = part.source(problem, responses)
        return await given if isinstance(given, Awaitable) else given
    except Exception as error:
        return [raised(error)] * len(responses)


def _value(verdict: Verdict) -> float:
    """Returns the reward of a verdict: its own, or +1 or -1 (Eq. 7 of the DAPO paper), or NaN."""
    if verdict.reward is not None:
        return verdict.reward
    return math.nan if verdict.is_correct is None else 1.0 if verdict.is_correct else -1.0


def _named(verdicts: Mapping[str, Verdict], figures: str) -> dict[str, Any]:
    """Returns the figures that components give; with their names, if there are several."""
    return {
        (f"{name}/{key}" if len(verdicts) > 1 else key): value
        for name, verdict in verdicts.items()
        for key, value in getattr(verdict, figures).items()
    }
