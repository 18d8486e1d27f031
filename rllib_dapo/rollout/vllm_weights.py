"""New weights for a vLLM engine, whether its workers live in this process or in others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from torch import Tensor

# What is on the way to the workers at a time. Larger pieces are no faster.
PIECE_BYTES = 64 * 2**20


def hand_over(llm: Any, weights: Iterable[tuple[str, Tensor]], *, num_workers: int) -> list[str]:
    """Gives every worker of an engine new weights.

    Args:
        llm: The engine's `vllm.LLM`.
        weights: Every weight under its name in a Hugging Face checkpoint; they may be made one
            after the other.
        num_workers: Number of workers of this engine.

    Returns:
        Names of weights, and of layers, that some worker's model has and was not given.

    Raises:
        RuntimeError: If a worker does not take them.
    """
    # A single worker lives in this process: tensors go to it as they are, one by one.
    if num_workers == 1:
        (lacking,) = llm.collective_rpc("receive_weights", args=(iter(weights),))
        return list(lacking)

    _ask(llm, "start_weights")
    try:
        for piece in pieces(weights):
            _ask(llm, "take_weights", piece)
        answers = _ask(llm, "finish_weights")
    except BaseException:
        # What went wrong is more telling than what may go wrong here, in the same workers.
        with suppress(Exception):
            _ask(llm, "abandon_weights")
        raise
    return list(dict.fromkeys(name for lacking in answers for name in lacking))


def pieces(
    weights: Iterable[tuple[str, Tensor]], *, max_bytes: int = PIECE_BYTES
) -> Iterator[list[tuple[str, Tensor]]]:
    """Cuts weights into pieces, so that no process holds a second copy of all of them.

    Args:
        weights: Tensors by name, which may be made one after the other.
        max_bytes: Size at which a piece ends, with the tensor that reaches it.

    Yields:
        The weights of one piece, in their order. A piece crosses as the bytes of its tensors,
        whatever their type: vLLM's queues take these out of what they pickle.
    """
    piece: list[tuple[str, Tensor]] = []
    size = 0
    for name, tensor in weights:
        piece.append((name, tensor.detach()))
        size += tensor.nbytes
        if size >= max_bytes:
            yield piece
            piece, size = [], 0

    if piece:
        yield piece


def _ask(llm: Any, step: str, *arguments: Any) -> list[Any]:
    """Has all workers take one step of the hand-over, and waits for all of their answers."""
    answers = llm.collective_rpc("answer_weights", args=(step, *arguments))

    refusals = {rank: error for rank, (_, error) in enumerate(answers) if error}
    if refusals:
        rank, error = next(iter(refusals.items()))
        raise RuntimeError(f"worker {rank} of {len(answers)}: {error}")
    return [answer for answer, _ in answers]
