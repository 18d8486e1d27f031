"""The machine that this process runs on, as hardware to plan for."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

from rllib_dapo.capacity.hardware import GPUS, Gpu, Hardware
from rllib_dapo.threads import available_cores


def this_machine() -> Hardware:
    """Cores, memory and GPUs of this machine; of a container where this process is in one."""
    gpus = _gpus()
    return Hardware(
        name="this machine",
        gpus_per_node=len(gpus),
        gpu=min(gpus, key=lambda gpu: gpu.memory) if gpus else None,
        cpus_per_node=available_cores(),
        memory_per_node=main_memory(),
    )


def main_memory() -> float:
    """Bytes of main memory, or the container's limit where that is lower."""
    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = Path(file).read_text().strip()
        except OSError:
            continue
        if limit.isdigit():
            return min(memory, float(limit))
    return memory


def _gpus() -> list[Gpu]:
    """The GPUs that this process may use, by what the driver's own tool says of them.

    Torch would start CUDA in this process, which keeps memory of a GPU until it ends.
    """
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []

    rows = [line.rpartition(",") for line in told.splitlines() if "," in line]
    found = [
        recognized_gpu(name.strip(), float(mib) * 2**20)
        for name, _, mib in rows
        if mib.strip().isdigit()
    ]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if visible is None else found[: len([x for x in visible.split(",") if x.strip()])]


def recognized_gpu(name: str, memory: float) -> Gpu:
    """A GPU by what the driver calls it, such as `NVIDIA H100 80GB HBM3`.

    Its rates are those of its kind where the table has it, else those of a modest one.

    Args:
        name: The driver's name.
        memory: Its memory, in bytes.
    """
    told = name.lower().replace(" ", "").replace("-", "")
    alike = [gpu for key, gpu in GPUS.items() if key.split("-")[0] in told]
    alike = [gpu for gpu in alike if ("pcie" in gpu.name) == ("pcie" in told)] or alike
    if not alike:
        return replace(GPUS["l4-24gb"], name=name, memory=memory)
    nearest = min(alike, key=lambda gpu: abs(gpu.memory - memory))
    return replace(nearest, memory=memory)
