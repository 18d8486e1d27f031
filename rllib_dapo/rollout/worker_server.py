"""Worker processes of an engine on CPUs are forked from one that has imported vLLM for them all.

On CPUs vLLM starts each worker as a new interpreter, which imports vLLM for itself: 14 seconds of
work each, after the process that starts them has done the same. A server of `multiprocessing`
imports it once, beside that process, and every worker is a copy of the server. Where there are
GPUs, vLLM forks its workers as long as it can, and nothing is changed.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import TYPE_CHECKING, Any

import torch

from rllib_dapo.rollout.vllm_build import vllm_wants_gpus
from rllib_dapo.rollout.vllm_environment import vllm_environment
from rllib_dapo.threads import set_num_threads

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

_IMPORTS = ["rllib_dapo.rollout.worker_imports"]


def start_worker_server(num_workers: int) -> None:
    """Starts the server, which goes on importing while this process does something else.

    Does nothing where vLLM was not built for CPUs, or the server is there.

    Args:
        num_workers: How many workers will share the threads of this process.
    """
    if vllm_wants_gpus():
        return

    os.environ.update(vllm_environment())
    multiprocessing.set_forkserver_preload(_IMPORTS)
    with _shared_threads(num_workers):  # a copy has as many threads as the server may have
        forkserver.ensure_running()


def start_early(config: DAPOConfig, worker_index: int | None = None, **_: Any) -> None:
    """Starts the server where an EnvRunner will need it, so that it imports beside all else.

    Args:
        config: The EnvRunner's configuration.
        worker_index: Its number; 0 or None for the local one.
        **_: What else it is made with.
    """
    has_engine = bool(worker_index) or config.num_env_runners == 0
    is_own = config.engine == "vllm" and config.executor == "mp" and not config.shared_engine
    if has_engine and is_own and config.num_engine_workers > 1:
        set_num_threads(config.num_threads, shared_by=max(1, config.num_env_runners))
        start_worker_server(config.num_engine_workers)


class _CopiedWorker(ForkServerProcess):
    """A worker that has the environment of the process that starts it, as a new one would."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._environment = dict(os.environ)

    def run(self) -> None:
        """Runs the worker; called in its own process."""
        os.environ.update(self._environment)
        super().run()


class _CopyingContext(ForkServerContext):
    Process = _CopiedWorker


@contextmanager
def copied_workers(num_workers: int) -> Iterator[None]:
    """Has workers on CPUs that vLLM starts meanwhile be copies, which share this one's threads."""
    from vllm.platforms import current_platform
    from vllm.v1.executor import multiproc_executor

    if num_workers == 1 or not current_platform.is_cpu():
        yield
        return

    before = multiproc_executor.get_mp_context
    multiproc_executor.get_mp_context = _CopyingContext
    try:
        with _shared_threads(num_workers):  # workers that are Ray actors ask for it here
            yield
    finally:
        multiproc_executor.get_mp_context = before


@contextmanager
def _shared_threads(num_workers: int) -> Iterator[None]:
    """Has processes that are started inside this context share the threads of this one.

    Each would take as many as there are cores, or be bound by vLLM to the cores of a NUMA node of
    its own, which few machines have.
    """
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // num_workers))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("OMP_NUM_THREADS", None)
        else:
            os.environ["OMP_NUM_THREADS"] = before
