"""A vLLM server that speaks like OpenAI's, for as long as something is measured."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PATIENCE_SECONDS = 300.0
# For a small model on a CPU: nothing is compiled, and the cache does not take half of the memory.
_OPTIONS = ("--enforce-eager", "--kv-cache-memory-bytes", str(256 << 20))


@contextmanager
def vllm_server(model: str, *options: str, log: Path) -> Iterator[str]:
    """Starts a server, waits until it is ready, and ends it with all of its processes.

    Args:
        model: A model's folder; requests call it "judge".
        *options: Further options of the server.
        log: What it prints.

    Yields:
        Its address, for an OpenAI client.

    Raises:
        RuntimeError: If it ends, or is not ready in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (
        # Not `vllm serve`: that asks for a package named vllm, which the build for CPUs is not.
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model),
        *("--served-model-name", "judge", "--host", "127.0.0.1", "--port", str(port)),
        *(*_OPTIONS, *options),
    )
    quiet = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "VLLM_CPU_OMP_THREADS_BIND": "nobind", **quiet},
            start_new_session=True,
        )
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            # Its number is that of its group: what is left of it ends too.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the server is not ready: {log.read_text(errors='replace')[-20_000:]}")
