"""A taskset whose environment leads a conversation of several turns."""

from collections.abc import Iterator
from typing import Any

import verifiers.v1 as vf


class GuessTask(vf.Task[vf.TaskData, vf.State, vf.TaskConfig]):
    async def setup(self, trace: vf.Trace) -> None:
        trace.info["patience"] = 2

    @vf.stop
    async def insulted(self, trace: vf.Trace) -> bool:
        return trace.last_reply == "fool"


class GuessTaskset(vf.Taskset[GuessTask, vf.TasksetConfig]):
    def load(self) -> Iterator[GuessTask]:
        yield GuessTask(vf.TaskData(prompt=None), self.config.task)


class GuessConfig(vf.EnvConfig):
    player: vf.AgentConfig = vf.AgentConfig()


class GuessEnv(vf.Env[GuessConfig]):
    async def run(self, task: GuessTask, agents: Any) -> None:
        won = False
        async with agents.player.interaction(task) as interaction:
            segment = await interaction.turn("Guess my number.")
            while not segment.terminated and not won:
                won = segment.last_reply == "7"
                if not won:
                    segment = await interaction.turn([{"role": "user", "content": "Larger."}])
        turns = interaction.trace.num_turns
        interaction.trace.record_reward("won", 1.0 if won else 0.25 * (turns == 3))


__all__ = ["GuessEnv", "GuessTaskset"]
