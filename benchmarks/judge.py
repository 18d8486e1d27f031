"""A judge's time for 1,000 responses, against the server's own for the same 1,000 requests.

The server is vLLM's with the tiny model, which judges by adding: a response is `12+34=`, and its
reward what the model makes of it. The other side sends the very bytes of the same requests with a
bare HTTP client, at the same concurrency, and looks at no answer. Both sides share the machine with
the server, so what a client computes makes the server slower, too.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from itertools import count
from pathlib import Path

import httpx2
from common import Side, alternate, report, timed
from vllm_server import vllm_server

from rllib_dapo.envs.adapters.reward_function import RewardFunctionEnv
from rllib_dapo.models import resolve_model

ROUNDS, RESPONSES, CONCURRENCY = 3, 1_000, 64
TARGET = 1 / 1.2  # of the server's own time, at most 1.2 times as much


def responses(number: int) -> list[str]:
    """The sums of a round, which no other round has: our cache does not know them."""
    numbers = range(number * RESPONSES, (number + 1) * RESPONSES)
    return [f"{n // 100}+{n % 100}=" for n in numbers]


def judged(env: RewardFunctionEnv, number: int) -> tuple[float, int]:
    """Seconds until every response has its verdict, and how many are not missing."""

    def score() -> int:
        tickets = [env.submit(0, response) for response in responses(number)]
        rewards = [env.collect(ticket)[0] for ticket in tickets]
        return sum(reward == reward for reward in rewards)

    return timed(score)


def bare(url: str, number: int) -> float:
    """Seconds until the server has answered the same requests."""

    async def post(client: httpx2.AsyncClient, slots: asyncio.Semaphore, body: bytes) -> None:
        async with slots:
            answer = await client.post(f"{url}/chat/completions", content=body)
        answer.raise_for_status()

    async def post_all(bodies: list[bytes]) -> None:
        slots = asyncio.Semaphore(CONCURRENCY)
        headers = {"Content-Type": "application/json"}
        async with httpx2.AsyncClient(timeout=600, headers=headers) as client:
            await asyncio.gather(*(post(client, slots, body) for body in bodies))

    bodies = [
        json.dumps(
            {
                "messages": [{"role": "user", "content": response}],
                "model": "judge",
                "max_tokens": 8,
                "temperature": 0.0,
            }
        ).encode()
        for response in responses(number)
    ]
    seconds, _ = timed(lambda: asyncio.run(post_all(bodies)))
    return seconds


def main() -> None:
    """Measures both sides in turn."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prompts.jsonl"
        path.write_text(json.dumps({"prompt": "Write a sum."}) + "\n")
        model = str(resolve_model("tiny"))
        with vllm_server(model, "--dtype", "float32", log=Path(folder) / "log") as url:
            judge = {
                "url": url,
                "model": "judge",
                "template": "{response}",
                "parser": r"^\s*(\d+)",
                "max_tokens": 8,
                "concurrency": CONCURRENCY,
            }
            env = RewardFunctionEnv(path=str(path), reward={"judge": judge})
            verdicts: list[int] = []
            numbers, others_numbers = count(), count()

            def ours() -> float:
                seconds, known = judged(env, next(numbers))
                verdicts.append(known)
                return seconds

            figures, others = alternate(
                ours, lambda: bare(url, next(others_numbers)), rounds=ROUNDS
            )
            env.close()

    report(
        "judge",
        ours=Side(label="1,000 responses with their verdicts", unit="s", values=figures),
        other=Side(label="the same requests by a bare client", unit="s", values=others),
        target=round(TARGET, 3),
        higher_is_better=False,
        also={"missing verdicts": (RESPONSES * len(verdicts) - sum(verdicts), 0)},
        responses=RESPONSES,
        concurrency=CONCURRENCY,
    )


if __name__ == "__main__":
    main()
