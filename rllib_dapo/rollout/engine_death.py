"""What an EnvRunner does whose engine has lost a process: it makes room for a new one."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from rllib_dapo.rollout.engine import EngineDiedError

if TYPE_CHECKING:
    from rllib_dapo.rollout.env_runner import TextEnvRunner

logger = logging.getLogger(__name__)


def end_with_engine(runner: TextEnvRunner, error: EngineDiedError) -> None:
    """Ends this process where Ray will start the EnvRunner anew, with a new engine.

    Args:
        runner: The EnvRunner in this process.
        error: Says what has died; it goes to this process's log.
    """
    if runner.worker_index > 0 and runner.config.restart_failed_env_runners:
        logger.error("%s; this EnvRunner starts anew", error)
        logging.shutdown()
        # Not an exception: RLlib would wait for a minute first. Nor `exit_actor`: Ray does not
        # restart an actor that has left of its own accord.
        os._exit(1)
