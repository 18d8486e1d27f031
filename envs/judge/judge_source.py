"""Judges and reward models as sources of rewards, shared by the environments of a process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rllib_dapo.envs.adapters.called_functions import GroupSource
from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.judge.endpoint_settings import EndpointSettings
from rllib_dapo.envs.judge.judge_settings import JudgeSettings
from rllib_dapo.envs.judge.reward_model_settings import RewardModelSettings
from rllib_dapo.envs.processes.event_loop_thread import run_in_loop
from rllib_dapo.envs.verify.verdict import Verdict

if TYPE_CHECKING:
    from rllib_dapo.envs.judge.asked_model import AskedModel

_models: dict[tuple[int, EndpointSettings], AskedModel] = {}


def judge_source(settings: JudgeSettings | RewardModelSettings) -> GroupSource:
    """Returns what asks a model, from any event loop; it connects when it is first asked.

    Args:
        settings: The judge or reward model. Sources with equal settings share it.

    Raises:
        ValueError: If the cache's file cannot be used.
    """
    _shared_model(settings)

    async def one(problem: Problem, response: str) -> Verdict:
        # Looked up by its settings, so that the source may be copied and sent.
        judging = _shared_model(settings).judge(problem, response)
        return await asyncio.wrap_future(run_in_loop(judging))

    async def source(problem: Problem, responses: Sequence[str]) -> list[Verdict]:
        return await asyncio.gather(*(one(problem, response) for response in responses))

    return source


def _shared_model(settings: JudgeSettings | RewardModelSettings) -> AskedModel:
    key = (os.getpid(), settings)  # connections are no good in a forked copy
    if key not in _models:
        _models[key] = _made(settings)
    return _models[key]


def _made(settings: JudgeSettings | RewardModelSettings) -> AskedModel:
    # Their client takes a second to import, which only those who ask need to pay.
    if isinstance(settings, JudgeSettings):
        from rllib_dapo.envs.judge.judge import Judge

        return Judge(settings)
    from rllib_dapo.envs.judge.reward_model import RewardModel

    return RewardModel(settings)
