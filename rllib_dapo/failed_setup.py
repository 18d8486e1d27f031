"""What an algorithm that could not be set up would leave behind in its process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rllib_dapo.algorithm import DAPO


@contextmanager
def closed_if_it_fails(algorithm: DAPO) -> Iterator[None]:
    """Closes the EnvRunner and the Learner of this process if an algorithm's setup fails.

    Nobody else could: whoever asked for the algorithm gets an error and not the algorithm. An
    engine would keep its memory, and its process group, which the next one would take for its own.
    Actors end by themselves, as nobody holds them any more.

    Args:
        algorithm: The algorithm that is being set up.
    """
    try:
        yield
    except BaseException:
        runners = getattr(algorithm, "env_runner_group", None)
        learners = getattr(algorithm, "learner_group", None)
        # What may fail here is less telling than why the setup failed.
        with suppress(Exception):
            if learners is not None and learners.is_local:
                learners.shutdown()
        with suppress(Exception):
            if runners is not None and runners.local_env_runner is not None:
                runners.local_env_runner.stop()
        raise
