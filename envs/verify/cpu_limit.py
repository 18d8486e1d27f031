"""A bound on the CPU time of one computation, in processes that score.

CPU time and not the clock on the wall: how busy the machine is must not decide a verdict.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Where what is interrupted catches even this, it is interrupted again.
_AGAIN_SECONDS = 0.1


class CpuTimeSpent(BaseException):
    """A computation took more CPU time than it may; libraries must not take it for their own."""


class _Limit:
    seconds: float | None = None  # of this process; None: no limit
    is_armed = False


def limit_cpu_time(seconds: float) -> None:
    """Has `cpu_limit` bound what runs in the main thread of this process from now on.

    Args:
        seconds: CPU time of this process, in user and kernel mode together.
    """
    _Limit.seconds = seconds
    signal.signal(signal.SIGPROF, _interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])


@contextmanager
def cpu_limit() -> Iterator[None]:
    """Bounds what runs inside, where `limit_cpu_time` was called; elsewhere it does nothing.

    What runs in Python is interrupted, and so are regular expressions; other long calls into C end
    first.

    Raises:
        CpuTimeSpent: If it takes too much.
    """
    if _Limit.seconds is None:
        yield
        return

    _Limit.is_armed = True
    signal.setitimer(signal.ITIMER_PROF, _Limit.seconds, _AGAIN_SECONDS)
    try:
        yield
    finally:
        _Limit.is_armed = False
        signal.setitimer(signal.ITIMER_PROF, 0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _Limit.is_armed:
        raise CpuTimeSpent(f"more than {_Limit.seconds:g} s of CPU time")
