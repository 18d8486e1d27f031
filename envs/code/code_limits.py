"""What a program may take in the sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from rllib_dapo.envs.env_settings import check_integer, is_finite_number

SCRATCH_BYTES: Final = 16 << 20
_LEAST_MIB = 64  # Python alone holds a fifth of it
_OPEN_FILES = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeLimits:
    """Limits of one program; what passes one of them is wrong.

    Attributes:
        cpu_seconds: CPU time for one test, of all its processes together.
        wall_seconds: Time for one test by the clock, for programs that wait rather than compute.
        memory_mib: Memory in MiB: address space of each process, and what all of them hold.
        processes: Processes and threads at a time.
        output_kib: Output to one test, in KiB, beyond twice what is expected.
    """

    cpu_seconds: float = 4.0
    wall_seconds: float = 20.0
    memory_mib: int = 512
    processes: int = 16
    output_kib: int = 1024

    def of_resources(self, *, num_tests: int = 1) -> dict[str, int]:
        """Returns limits by the kernel's names of resources, for a process that runs some tests.

        CPU time is watched from outside as well, test by test; the kernel's own limit, which
        counts whole seconds of each process, stands behind that.

        Args:
            num_tests: Number of tests that the process is there for.
        """
        return {
            "CPU": int(self.cpu_seconds * num_tests) + 2,
            "AS": self.memory_mib << 20,
            "NPROC": self.processes + 1,  # and the one that waits for them
            "FSIZE": SCRATCH_BYTES,
            "NOFILE": _OPEN_FILES,
            "CORE": 0,
            "MEMLOCK": 0,
            "MSGQUEUE": 0,
            "SIGPENDING": 64,
        }


def read_limits(setting: str, given: Mapping[str, Any]) -> CodeLimits:
    """Returns limits as a user gives them.

    Args:
        setting: Name of what they belong to, for messages.
        given: Some of the attributes of `CodeLimits` by name.

    Raises:
        ValueError: If one of them is refused.
    """
    defaults = CodeLimits()
    values: dict[str, Any] = {}
    for field in fields(CodeLimits):
        if field.name not in given:
            continue
        name, value = f"{setting}.{field.name}", given[field.name]
        if isinstance(getattr(defaults, field.name), float):
            if not is_finite_number(value) or not 0.1 <= value <= 3600:
                raise ValueError(f"{name}={value!r}: must be a number of seconds from 0.1 to 3600")
            values[field.name] = float(value)
        else:
            least = _LEAST_MIB if field.name == "memory_mib" else 1
            values[field.name] = check_integer(name, value, low=least, high=1 << 20)
    return CodeLimits(**values)
