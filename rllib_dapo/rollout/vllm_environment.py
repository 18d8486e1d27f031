"""What vLLM reads from the environment when it is imported."""

import os

_DEFAULTS = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    # Seconds in which workers may end by themselves; one that waits for a dead one never does.
    "VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS": "1",
    # On a CPU the caller sets the threads: the Learner may share this process and its cores.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}

# The engine's core runs in this process, so that it is stepped here, and a single worker beside it,
# so that weights are handed over as tensors and nothing outlives the actor. Not a default: with a
# core in another process, neither is true.
_FIXED = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}


def vllm_environment() -> dict[str, str]:
    """Variables to set before vLLM is imported; what is set already stays, where it may."""
    return {name: os.environ.get(name, value) for name, value in _DEFAULTS.items()} | _FIXED
