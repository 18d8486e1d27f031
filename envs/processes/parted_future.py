"""One future of several results as a future for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def parted(results: Future[Sequence[T]] | Future[list[T]], size: int) -> list[Future[T]]:
    """Returns a future for each of so many results; all of them are done when `results` is."""
    parts: list[Future[T]] = [Future() for _ in range(size)]
    for part in parts:
        part.set_running_or_notify_cancel()

    def deal(done: Future[Sequence[T]]) -> None:
        try:
            found = done.result()
            if len(found) != size:
                raise ValueError(f"{len(found)} results in place of {size}")
        except BaseException as error:
            for part in parts:
                part.set_exception(error)
            return
        for part, result in zip(parts, found, strict=True):
            part.set_result(result)

    results.add_done_callback(deal)  # type: ignore[arg-type]  # of either kind of sequence
    return parts
