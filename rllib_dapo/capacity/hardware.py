"""What a run is planned for: nodes, their GPUs, memory and bandwidths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from rllib_dapo.findings import SettingsError, suggest

GIB = 1 << 30
GPUS_PER_NODE = 8  # of what is rented where nobody says otherwise
# Rates of a CPU's core, measured with float32 and bfloat16 products on a server with AVX-512 and
# AMX; other machines differ by a factor of several.
CORE_FLOPS = {"float32": 150e9, "bfloat16": 350e9, "float64": 75e9}
CPU_BANDWIDTH = 20e9


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One kind of GPU.

    Attributes:
        name: Its name, such as `h100-80gb`.
        memory: Usable memory, in bytes.
        bfloat16_flops: Dense operations a second in bfloat16, by the data sheet.
        float32_flops: The same in float32, outside of tensor cores.
        bandwidth: Of its memory, in bytes a second.
        link: To other GPUs of the node, one way, in bytes a second.
        host_link: To main memory, one way, in bytes a second.
    """

    name: str
    memory: float
    bfloat16_flops: float
    float32_flops: float
    bandwidth: float
    link: float
    host_link: float

    def flops(self, dtype: str) -> float:
        """Operations a second in a type of numbers.

        Args:
            dtype: `language_model.dtype`.
        """
        return self.bfloat16_flops if dtype == "bfloat16" else self.float32_flops


def _gpu(
    name: str, gib: float, half: float, single: float, gb_s: float, link: float, host: float
) -> Gpu:
    """A row of the table below: GiB, teraflops twice, GB/s three times."""
    return Gpu(
        name=name,
        memory=gib * GIB,
        bfloat16_flops=half * 1e12,
        float32_flops=single * 1e12,
        bandwidth=gb_s * 1e9,
        link=link * 1e9,
        host_link=host * 1e9,
    )


# From the data sheets of their maker: dense rates, links one way. The memory is what the driver
# leaves of it, which is a little less than the name says.
GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("b200-180gb", 178, 2250, 75, 7700, 900, 55),
        _gpu("h200-141gb", 140, 989, 67, 4800, 450, 55),
        _gpu("h100-80gb", 79.6, 989, 67, 3350, 450, 55),
        _gpu("h100-pcie-80gb", 79.6, 756, 51, 2000, 55, 55),
        _gpu("h20-96gb", 95, 148, 44, 4000, 450, 55),
        _gpu("a100-80gb", 79.3, 312, 19.5, 2039, 300, 25),
        _gpu("a100-40gb", 39.4, 312, 19.5, 1555, 300, 25),
        _gpu("l40s-48gb", 44.5, 362, 91.6, 864, 25, 25),
        _gpu("a10g-24gb", 22.1, 70, 31.5, 600, 25, 25),
        _gpu("l4-24gb", 22.1, 121, 30.3, 300, 25, 25),
        _gpu("rtx4090-24gb", 23.6, 165, 82.6, 1008, 25, 25),
        _gpu("rtx3090-24gb", 23.6, 71, 35.6, 936, 25, 25),
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """The machines of a run, all alike.

    Attributes:
        name: What they are called in a table.
        nodes: Number of machines.
        gpus_per_node: GPUs of each.
        gpu: What these are; None where there are none.
        cpus_per_node: Cores of each.
        memory_per_node: Main memory of each, in bytes; None if that is not known.
        network: Between nodes, one way and for each node, in bytes a second.
    """

    name: str
    nodes: int = 1
    gpus_per_node: int = 0
    gpu: Gpu | None = None
    cpus_per_node: float = 1
    memory_per_node: float | None = None
    network: float = 50e9

    @property
    def gpus(self) -> int:
        """GPUs of all nodes."""
        return self.nodes * self.gpus_per_node

    @property
    def text(self) -> str:
        """What they are, in one line."""
        nodes = f"{self.nodes} nodes of " if self.nodes > 1 else ""
        gpus = f"{self.gpus_per_node} x {self.gpu.name}, " if self.gpu else ""
        memory = f", {self.memory_per_node / GIB:.0f} GiB" if self.memory_per_node else ""
        return f"{nodes}{gpus}{self.cpus_per_node:g} cores{memory}"


def gpu_named(name: str) -> Gpu:
    """A GPU of the table.

    Args:
        name: Its name; without the memory where only one kind is called so.

    Raises:
        SettingsError: If there is none, or several; one line.
    """
    wanted = name.strip().lower()
    found = [gpu for key, gpu in GPUS.items() if key == wanted or key.rpartition("-")[0] == wanted]
    if len(found) == 1:
        return found[0]
    near = suggest(wanted, GPUS)
    raise SettingsError(
        f"--gpu={name!r}: {'several are called so' if found else 'no such GPU is known'}{near}; "
        f"one of {', '.join(GPUS)}, or describe it in a file for --hardware"
    )


# What a file for --hardware may say, and which of it is about the GPU.
_SIZES = {"memory_gib": GIB, "network_gb_s": 1e9}
_OF_A_GPU = {
    "memory_gib": ("memory", GIB),
    "bfloat16_tflops": ("bfloat16_flops", 1e12),
    "float32_tflops": ("float32_flops", 1e12),
    "bandwidth_gb_s": ("bandwidth", 1e9),
    "link_gb_s": ("link", 1e9),
    "host_link_gb_s": ("host_link", 1e9),
}
_KEYS = ("name", "nodes", "gpus_per_node", "gpu", "cpus_per_node", *_SIZES)


def read_hardware(file: Path) -> Hardware:
    """Reads a description of machines.

    Args:
        file: A YAML file with some of the keys `name`, `nodes`, `gpus_per_node`, `gpu` (a name, or
            a mapping), `cpus_per_node`, `memory_gib` and `network_gb_s`.

    Raises:
        SettingsError: If it cannot be read, or says what cannot be; one line.
    """
    told = f"--hardware {file}"
    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{told}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{told}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise SettingsError(f"{told}: must hold keys such as gpu: h100-80gb and gpus_per_node: 8")

    for problem in _wrong(given, _KEYS, names=("name", "gpu")):
        raise SettingsError(f"{told}: {problem}")
    gpu = None if given.get("gpu") is None else _described_gpu(given["gpu"], told)
    counts = {key: given[key] for key in ("nodes", "gpus_per_node") if key in given}
    for key, value in counts.items():
        if value != int(value):
            raise SettingsError(f"{told}: {key}={value} must be a whole number")
    if gpu is None and given.get("gpus_per_node"):
        raise SettingsError(f"{told}: gpus_per_node={given['gpus_per_node']}, but gpu is not set")

    return Hardware(
        name=str(given.get("name", file.stem)),
        nodes=int(counts.get("nodes", 1)),
        gpus_per_node=int(counts.get("gpus_per_node", 1 if gpu else 0)),
        gpu=gpu,
        cpus_per_node=given.get("cpus_per_node", 1),
        memory_per_node=given["memory_gib"] * GIB if "memory_gib" in given else None,
        network=given.get("network_gb_s", 50) * 1e9,
    )


def _described_gpu(given: Any, told: str) -> Gpu:
    """A GPU by its name, or by its numbers on top of one that has a name."""
    if isinstance(given, str):
        return gpu_named(given)
    if not isinstance(given, dict):
        raise SettingsError(f"{told}: gpu={given!r} must be a name such as h100-80gb, or a mapping")
    for problem in _wrong(given, ("name", *_OF_A_GPU), names=("name",), where="gpu."):
        raise SettingsError(f"{told}: {problem}")

    numbers = {
        attribute: given[k] * unit for k, (attribute, unit) in _OF_A_GPU.items() if k in given
    }
    name = str(given.get("name", "gpu"))
    if name.lower() in GPUS:
        return replace(GPUS[name.lower()], **numbers)
    missing = {field.name for field in fields(Gpu)} - {"name", *numbers}
    if missing:
        keys = [key for key, (attribute, _) in _OF_A_GPU.items() if attribute in missing]
        raise SettingsError(
            f"{told}: gpu {name!r} is not known, so it needs {', '.join(keys)}, too"
        )
    return Gpu(name=name, **numbers)


def _wrong(
    given: Mapping[Any, Any], known: tuple[str, ...], *, names: tuple[str, ...], where: str = ""
) -> Iterator[str]:
    """Keys that nobody knows, and values that are not positive numbers."""
    for key, value in given.items():
        if key not in known:
            near = suggest(str(key), known)
            yield f"unknown key {where}{key!s}{near}; known: {', '.join(known)}"
        elif key not in names and not _is_size(value, may_be_zero=key == "gpus_per_node"):
            yield f"{where}{key}={value!r} must be a number above 0"


def _is_size(value: Any, *, may_be_zero: bool) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and (0 < value < float("inf") or (may_be_zero and value == 0))
