"""What vLLM compiles when it first samples, and need not on a CPU."""

from vllm.platforms import current_platform


def leave_uncompiled() -> None:
    """Has vLLM's few compiled functions run as they are, in this process, on a CPU.

    They compare log-probabilities and ids, in microseconds. To compile them takes a C++ compiler,
    seconds when an engine has its first request, and many more on a machine that has not done it
    before. To be called before vLLM's workers are imported, which read the setting once.
    """
    if current_platform.is_cpu():
        type(current_platform).simple_compile_backend = "eager"
