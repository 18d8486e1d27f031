"""A small OpenEnv server for the tests, run as a script with a port.

It asks for sums, and some responses make trouble.
"""

import random
import sys
import threading
from typing import Any

import uvicorn
from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app


class Say(Action):
    message: str
    tone: str = "plain"


class Told(Observation):
    text: str
    remark: int = 0


class SumEnvironment(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, most: int = 50, **kwargs: Any
    ) -> Told:
        if most < 0:
            raise ValueError("most is under 0")
        draw = random.Random(seed)
        self.numbers = draw.randrange(most), draw.randrange(most)
        return Told(text="{}+{}=".format(*self.numbers))

    def step(self, action: Say, timeout_s: float | None = None, **kwargs: Any) -> Told:
        if action.message == "hang":
            threading.Event().wait()
        if action.message == "raise":
            raise RuntimeError("boom")
        if action.message == "nothing":
            return Told(text="", done=True, reward=None)
        if action.message == "tone":
            return Told(text="", done=True, reward=float(len(action.tone)))
        if action.message.startswith("hint"):
            return Told(text=f"over {sum(self.numbers) - 1}", reward=0.0)
        return Told(text="", done=True, reward=float(action.message == str(sum(self.numbers))))

    @property
    def state(self) -> State:
        return State()


if __name__ == "__main__":
    app = create_fastapi_app(SumEnvironment, Say, Told, max_concurrent_envs=2)
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), ws="websockets-sansio", log_level="info"
    )
