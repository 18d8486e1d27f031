"""A taskset without end."""

import itertools
from collections.abc import Iterator

import verifiers.v1 as vf


class EndlessTaskset(vf.Taskset[vf.Task, vf.TasksetConfig]):
    INFINITE = True

    def load(self) -> Iterator[vf.Task]:
        for i in itertools.count():
            yield vf.Task(vf.TaskData(prompt=str(i)), self.config.task)


__all__ = ["EndlessTaskset"]
