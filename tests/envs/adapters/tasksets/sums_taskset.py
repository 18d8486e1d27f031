"""A taskset as packages of verifiers' hub have them: one turn, two rewards."""

from collections.abc import Iterator

import verifiers.v1 as vf


class SumData(vf.TaskData):
    answer: str


class SumTask(vf.Task[SumData, vf.State, vf.TaskConfig]):
    @vf.reward
    async def right(self, trace: vf.Trace) -> float:
        if trace.last_reply == "raise":
            raise RuntimeError("ask for nothing")
        if trace.last_reply == "nan":
            return float("nan")
        return float(trace.last_reply == self.data.answer)

    @vf.reward(weight=0.25)
    async def brief(self, trace: vf.Trace) -> float:
        return float(len(trace.last_reply) < 10)


class SumConfig(vf.TasksetConfig):
    size: int = 20


class SumTaskset(vf.Taskset[SumTask, SumConfig]):
    def load(self) -> Iterator[SumTask]:
        for i in range(self.config.size):
            data = SumData(prompt=f"{i}+{i}=", system_prompt="Add.", answer=str(2 * i))
            yield SumTask(data, self.config.task)


__all__ = ["SumTaskset"]
