"""Scoring where a judge takes part: it is asked while everything else is computed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import Future

from rllib_dapo.envs.adapters.weighted_reward import WeightedReward, texts_of
from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.processes.event_loop_thread import run_in_loop
from rllib_dapo.envs.scoring import ProcessScoring
from rllib_dapo.envs.verify.verdict import Verdict


class JudgedScoring:
    """Asks the judges of a reward in this process's event loop, and the rest where it belongs.

    The rest is functions, rules and the like: they run in processes, or in a thread. Nobody waits
    for a judge but the response that it judges.
    """

    def __init__(self, reward: WeightedReward, processes: ProcessScoring) -> None:
        """Asks nothing yet.

        Args:
            reward: The whole reward.
            processes: The environment's way to the processes that score.
        """
        self._reward = reward
        self._judges = reward.parts(judges=True)
        self._rest = reward.parts(judges=False)
        self._processes = processes
        self._open: set[Future[list[Verdict]]] = set()

    def submit(
        self, problem: Problem, responses: Sequence[str], *, in_process: bool
    ) -> Future[list[Verdict]]:
        """Begins to score responses to a problem.

        Args:
            problem: The problem.
            responses: One response, or the whole group.
            in_process: Whether all but the judges is scored in processes.
        """
        rest = self._begin_rest(problem, responses) if in_process else None
        verdicts = run_in_loop(self._score(problem, responses, rest))
        self._open.add(verdicts)
        verdicts.add_done_callback(self._open.discard)
        return verdicts

    def close(self) -> None:
        """Gives up what is under way."""
        for verdicts in list(self._open):
            verdicts.cancel()

    async def _score(
        self, problem: Problem, responses: Sequence[str], rest: Future[list[Verdict]] | None
    ) -> list[Verdict]:
        judged = self._judges.found_async(problem, responses)
        found, others = await asyncio.gather(judged, self._found_by_rest(problem, responses, rest))
        names = [part.name for part in self._rest.components]
        size = len(responses)
        apart = {name: others[i * size : (i + 1) * size] for i, name in enumerate(names)}
        return self._reward.combined({**found, **apart})

    def _begin_rest(
        self, problem: Problem, responses: Sequence[str]
    ) -> Future[list[Verdict]] | None:
        count = len(responses) * len(self._rest.components)
        if not count:
            return None
        self._processes.prepare(lambda: self._rest.sent_rule(apart=True))
        texts = (*texts_of(problem), json.dumps(list(responses), ensure_ascii=False))
        return self._processes.submit_group(*texts, size=count)

    async def _found_by_rest(
        self, problem: Problem, responses: Sequence[str], begun: Future[list[Verdict]] | None
    ) -> list[Verdict]:
        if begun is not None:
            return await asyncio.wrap_future(begun)
        if not self._rest.components:
            return []
        return await asyncio.to_thread(self._rest.apart, problem, responses)
