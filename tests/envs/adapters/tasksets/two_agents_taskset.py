"""A taskset whose environment wants two agents."""

from collections.abc import Iterator
from typing import Any

import verifiers.v1 as vf


class Pair(vf.EnvConfig):
    first: vf.AgentConfig = vf.AgentConfig()
    second: vf.AgentConfig = vf.AgentConfig()


class PairEnv(vf.Env[Pair]):
    async def run(self, task: vf.Task, agents: Any) -> None:
        await agents.first.run(task)
        await agents.second.run(task)


class PairTaskset(vf.Taskset[vf.Task, vf.TasksetConfig]):
    def load(self) -> Iterator[vf.Task]:
        yield vf.Task(vf.TaskData(prompt="Talk."), self.config.task)


__all__ = ["PairEnv", "PairTaskset"]
