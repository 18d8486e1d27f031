"""Train on an environment behind an OpenEnv server, which this script starts and stops itself.

    python examples/openenv.py [MODEL] [ITERATIONS] [ENGINE]

Needs `pip install -e '.[openenv]'`. For a server that is already running, its address is enough:

    .environment("rllib_dapo/OpenEnv-v0", env_config={"url": "http://localhost:8000"})
"""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SERVE = "--serve"

# Python looks for modules in a script's own folder first, where this file has the package's name.
HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != HERE]


def serve(port: int) -> None:
    """Runs a server that asks for sums, written as OpenEnv wants it."""
    import uvicorn
    from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app

    class Answer(Action):
        text: str

    class Question(Observation):
        text: str

    class Sums(Environment):
        SUPPORTS_CONCURRENT_SESSIONS = True  # each response has its own session

        def reset(
            self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
        ) -> Question:
            draw = random.Random(seed)
            self.numbers = [draw.randint(0, 49) for _ in range(2)]
            return Question(text="{}+{}=".format(*self.numbers))

        def step(self, action: Answer, timeout_s: float | None = None, **kwargs: Any) -> Question:
            is_right = action.text.strip() == str(sum(self.numbers))
            return Question(text="", done=True, reward=1.0 if is_right else -1.0)

        @property
        def state(self) -> State:
            return State()

    app = create_fastapi_app(Sums, Answer, Question, max_concurrent_envs=64)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="info", access_log=False)


@contextmanager
def server() -> Iterator[str]:
    """Starts this file as a server, yields its address, and stops it in the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, __file__, SERVE, str(port)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None

    try:
        told = []
        for line in process.stderr:
            told.append(line)
            if "running on" in line:
                break
        else:
            raise RuntimeError("the server did not start:\n" + "".join(told))

        # It keeps logging every session, and would stop if nobody emptied the pipe.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def main(model: str = "tiny", iterations: str = "10", engine: str = "vllm") -> None:
    from rllib_dapo import DAPOConfig

    with server() as url:
        config = (
            DAPOConfig()
            .environment(
                "rllib_dapo/OpenEnv-v0", env_config={"url": url, "success_at": 1.0, "deadline": 10}
            )
            .language_model(model, dtype="float32")
            .rollout(engine=engine, max_prompt_tokens=16, max_response_tokens=8)
            .training(
                lr=3e-4, warmup_steps=2, prompts_per_step=16, group_size=16, minibatch_size=64
            )
            .dynamic_sampling(max_rounds=3)
        )

        algo = config.build_algo()
        for iteration in range(int(iterations)):
            rollouts = algo.train()["env_runners"]
            missing = rollouts["missing_reward_fraction"]
            accuracy = f"accuracy {rollouts['accuracy']:.3f}"
            print(f"iteration {iteration + 1}: {accuracy}, missing {missing:.3f}", flush=True)
        algo.stop()


if __name__ == "__main__":
    if sys.argv[1:2] == [SERVE]:
        serve(int(sys.argv[2]))
    else:
        main(*sys.argv[1:])
