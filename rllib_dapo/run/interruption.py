"""Ctrl-C and SIGTERM during a run: both save its state, end it and are told of."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray import tune


class Interrupted(BaseException):
    """SIGTERM while nothing of Tune's listens: it ends the command as Ctrl-C does.

    Like `KeyboardInterrupt` it is no `Exception`, so that nobody takes it for a failure.
    """


class Interruption(tune.Callback):
    """Tells of a signal as soon as it comes, and passes it on to Tune, which saves and ends.

    Attributes:
        signal_number: The signal that ended the run; None if none did.
    """

    def __init__(self, tell: Callable[[], None] | None = None) -> None:
        """Listens from `setup` on.

        Args:
            tell: Called at once when a signal comes.
        """
        self._tell = tell
        self.signal_number: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles callbacks; whom to tell belongs to one process."""
        return {"_tell": None, "signal_number": None}

    def setup(self, *_: Any, **__: Any) -> None:
        """Tune calls this when it listens itself, so its handler is there to be called."""
        if threading.current_thread() is not threading.main_thread():
            return
        tunes = signal.getsignal(signal.SIGINT)

        def handle(number: int, frame: FrameType | None) -> None:
            self.signal_number = number
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the second one ends at once
            if callable(tunes):
                tunes(signal.SIGINT, frame)  # it listens no more, so a second Ctrl-C ends at once
            if self._tell is not None:
                self._tell()

        signal.signal(signal.SIGINT, handle)
        signal.signal(signal.SIGTERM, handle)


@contextmanager
def termination_raised() -> Iterator[None]:
    """Makes SIGTERM an `Interrupted` while the context lasts, where it would end the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_: int, __: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        # Ray and Tune may have put their own in its place; those end with this command.
        signal.signal(signal.SIGTERM, before)
