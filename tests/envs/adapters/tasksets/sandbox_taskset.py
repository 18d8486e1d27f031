"""A taskset that scores in a sandbox."""

from collections.abc import Iterator
from typing import Any

import verifiers.v1 as vf


class SandboxTask(vf.Task[vf.TaskData, vf.State, vf.TaskConfig]):
    @vf.reward
    async def scored_there(self, trace: vf.Trace, runtime: Any) -> float:
        return float((await runtime.run(["true"], {})).exit_code == 0)


class SandboxTaskset(vf.Taskset[SandboxTask, vf.TasksetConfig]):
    def load(self) -> Iterator[SandboxTask]:
        yield SandboxTask(vf.TaskData(prompt="Write a program."), self.config.task)


__all__ = ["SandboxTaskset"]
