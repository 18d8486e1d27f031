"""Scorers that do as they are told, and pools to ask them through."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rllib_dapo.envs.verify.verifier_pool import PoolSettings, VerifierPool

# Where no deadline is to be missed: on a machine that is busy, anything may take a while.
PATIENCE = 300.0


# Local functions are sent whole: a process of the pool cannot import a test.
def make_scorer(action: str) -> Callable[[str, str], Any]:
    """Returns a scorer that compares, except where the response is "bad": then it does as told."""

    def score(response: str, answer: str) -> Any:
        import os
        import sys
        import time

        if response != "bad":
            return response == answer
        if action == "sleep":
            time.sleep(1000)
        elif action == "spin":
            while True:
                pass
        elif action == "exit":
            os._exit(3)
        elif action == "sys.exit":
            sys.exit("enough")
        elif action == "abort":
            os.abort()
        elif action == "raise":
            raise RuntimeError("what\nis this")
        elif action == "eat":
            eaten = []
            while True:
                eaten.append(bytearray(1 << 24))
        elif action == "close":
            os.closerange(0, 100)
            time.sleep(1000)
        elif action == "stop":
            os.kill(os.getpid(), 19)
        return None

    return score


@pytest.fixture
def scorer() -> Callable[[str], Callable[[str, str], Any]]:
    """Makes scorers."""
    return make_scorer


@pytest.fixture
def pool() -> Iterator[VerifierPool]:
    """A pool of two processes whose deadline nobody misses unless told to hang."""
    pool = VerifierPool(PoolSettings(seconds=PATIENCE, processes=2, memory_mib=256))
    yield pool
    pool.close()
    assert pool.pids == []
