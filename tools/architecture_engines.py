"""Engines for trying architectures: vLLM in a process of its own, as in training.

vLLM changes some of transformers' classes in its process.
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architectures import PROMPT_TOKENS, RESPONSE_TOKENS

# The folder of the model, which is another one every time.
_NAME = re.compile(r"language_model\.name='[^']*'")


def prompts() -> list[list[int]]:
    """Some prompts of random tokens."""
    rng = np.random.default_rng(2)
    return [rng.integers(3, 100, PROMPT_TOKENS).tolist() for _ in range(3)]


def sent_weights(module: Any) -> list[tuple[str, np.ndarray]]:
    """The weights in the form in which a Learner sends them."""
    from rllib_dapo.weight_transfer.wire.weight_arrays import to_numpy

    weights = module.checkpoint_format.to_checkpoint(module.lm.state_dict().items())
    return [(name, to_numpy(tensor, torch.float32)) for name, tensor in weights]


@contextmanager
def in_process_engine(kind: str, model: Path) -> Iterator[Any]:
    """An engine of a small run."""
    from rllib_dapo.rollout.make_engine import make_engine

    engine = make_engine(
        kind,
        model=str(model),
        dtype="float32",
        trust_remote_code=False,
        max_model_len=PROMPT_TOKENS + RESPONSE_TOKENS + 2,
        max_concurrent_responses=8,
        cpu_kv_cache_gib=0.25,
        seed=0,
        engine_kwargs={},
    )
    try:
        yield engine
    finally:
        engine.close()


def load(engine: Any, arrays: list[tuple[str, np.ndarray]]) -> None:
    """Hands weights to an engine."""
    from rllib_dapo.weight_transfer.wire.weight_arrays import to_tensors

    engine.load_weights(to_tensors(iter(arrays)))


def sample(engine: Any, prompts: list[list[int]]) -> list[list[tuple]]:
    """Two responses to each prompt: token ids and log-probabilities."""
    from rllib_dapo.rollout.engine import Sampling

    groups = engine.generate(
        prompts,
        sampling=Sampling(num_responses=2, max_tokens=RESPONSE_TOKENS),
        seeds=range(len(prompts)),
    )
    return [[(c.token_ids.tolist(), c.logprobs.tolist()) for c in group] for group in groups]


class EngineProcess:
    """A process with vLLM, which is asked one thing after the other."""

    def __init__(self) -> None:
        """Starts it."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()

    def ask(self, what: str, argument: Any = None) -> Any:
        """Has it do something.

        Returns:
            What came of it; a line that says why not where it failed.
        """
        self._pipe.send((what, argument))
        return self._pipe.recv()

    def close(self) -> None:
        """Ends it."""
        self._pipe.send(("end", None))
        self._process.join()


def _serve(pipe: Any) -> None:
    torch.set_num_threads(1)
    engine: Any = None
    stack: Any = None
    while True:
        what, argument = pipe.recv()
        try:
            answer: Any = True
            if what == "end":
                return
            if what == "open":
                stack = in_process_engine("vllm", Path(argument))
                engine = stack.__enter__()
            elif what == "load":
                load(engine, argument)
            elif what == "sample":
                answer = sample(engine, argument)
            elif what == "close":
                stack.__exit__(None, None, None)
                engine = stack = None
        except Exception as error:
            answer = refusal(error)
        pipe.send(answer)


def refusal(error: BaseException) -> str:
    """An error as one line of the table."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = _NAME.sub("", text).removeprefix("rollout.engine=vllm cannot run ").lstrip(": ")
    return f"refused: {text[:160]}"
