"""The number of threads that a process computes with."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

# In a process of its own: where vLLM has started an engine on CPUs, torch keeps its threads.
PROGRAM = """
import torch
from rllib_dapo.threads import one_thread

torch.set_num_threads(3)
with one_thread():
    print(torch.get_num_threads())
print(torch.get_num_threads())
try:
    with one_thread():
        raise RuntimeError("in between")
except RuntimeError:
    print(torch.get_num_threads())
"""


def test_the_threads_that_rest_meanwhile_come_back_after_an_error_too(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run_python("-c", PROGRAM, folder=tmp_path)
    assert done.stdout.split() == ["1", "3", "3"], done.stderr
