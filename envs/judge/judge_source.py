"""A judge as a source of rewards, shared by the environments of a process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rllib_dapo.envs.adapters.called_functions import GroupSource
from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.judge.judge_settings import JudgeSettings
from rllib_dapo.envs.processes.event_loop_thread import run_in_loop
from rllib_dapo.envs.verify.verdict import Verdict

if TYPE_CHECKING:
    from rllib_dapo.envs.judge.judge import Judge

_judges: dict[tuple[int, JudgeSettings], Judge] = {}


def judge_source(settings: JudgeSettings) -> GroupSource:
    """Returns what asks a judge, from any event loop; it connects when it is first asked.

    Args:
        settings: The judge. Sources with equal settings share it.

    Raises:
        ValueError: If the cache's file cannot be used.
    """
    _shared_judge(settings)

    async def one(problem: Problem, response: str) -> Verdict:
        # Looked up by its settings, so that the source may be copied and sent.
        judging = _shared_judge(settings).judge(problem, response)
        return await asyncio.wrap_future(run_in_loop(judging))

    async def source(problem: Problem, responses: Sequence[str]) -> list[Verdict]:
        return await asyncio.gather(*(one(problem, response) for response in responses))

    return source


def _shared_judge(settings: JudgeSettings) -> Judge:
    # Its client takes a second to import, which only those who ask a judge need to pay.
    from rllib_dapo.envs.judge.judge import Judge

    key = (os.getpid(), settings)  # connections are no good in a forked copy
    if key not in _judges:
        _judges[key] = Judge(settings)
    return _judges[key]
