"""Hardware that a run asks for, made of one kind of GPU; and the choice between it and this one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rllib_dapo.capacity.hardware import GIB, GPUS_PER_NODE, Hardware, gpu_named
from rllib_dapo.capacity.layout import engine_layout, learner_layout
from rllib_dapo.capacity.this_machine import this_machine
from rllib_dapo.findings import SettingsError

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# Cores and main memory for each GPU of a rented machine, about.
CORES_PER_GPU, MEMORY_PER_GPU = 16, 200 * GIB


def asked_gpus(configs: Sequence[DAPOConfig]) -> int:
    """The most GPUs that any of some configurations asks for.

    Args:
        configs: Valid configurations without search spaces.
    """
    counts = []
    for config in configs:
        learners, engines = learner_layout(config), engine_layout(config)
        counts.append(learners.count * learners.gpus + engines.count * engines.gpus)
    # Shares of one GPU, such as 0.6 and 0.4, are to come to a whole one.
    return math.ceil(round(max(counts), 6))


def chosen_hardware(
    asked: int,
    gpu: str | None,
    *,
    nodes: int | None = None,
    gpus_per_node: int | None = None,
    gib: float | None = None,
) -> Hardware:
    """The machines that options describe.

    Args:
        asked: GPUs that the run asks for.
        gpu: Kind of GPU; None plans for this machine.
        nodes: Number of machines; by default as many as the run needs.
        gpus_per_node: GPUs of each; by default as many as the run needs, at most 8.
        gib: Main memory of each, in GiB.

    Raises:
        SettingsError: If there is no such GPU, or an option needs another; one line.
    """
    if gpu is None:
        for option, value in (("--nodes", nodes), ("--gpus-per-node", gpus_per_node)):
            if value is not None:
                raise SettingsError(f"{option}={value} needs the kind of GPU: add --gpu h100-80gb")
        here = this_machine()
        return here if gib is None else replace(here, memory_per_node=gib * GIB)

    kind = gpu_named(gpu)
    each = gpus_per_node or max(1, min(GPUS_PER_NODE, asked))
    return Hardware(
        name="what the run asks for" if nodes is None else "these machines",
        nodes=nodes or max(1, math.ceil(asked / each)),
        gpus_per_node=each,
        gpu=kind,
        cpus_per_node=each * CORES_PER_GPU,
        memory_per_node=each * MEMORY_PER_GPU if gib is None else gib * GIB,
    )
