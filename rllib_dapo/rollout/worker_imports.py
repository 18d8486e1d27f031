"""What the server of worker processes imports for them all; see `worker_server`."""

import contextlib

# Its title comes first, for those who look at a list of processes. If none is set before vLLM is
# imported, those that workers give themselves do not show.
with contextlib.suppress(ImportError):
    from setproctitle import setproctitle

    setproctitle("rllib-dapo: starts engine workers")

# None of it starts a thread, which a copy of the process would lack.
import vllm.v1.executor.multiproc_executor
import vllm.v1.worker.cpu_worker  # noqa: F401
