"""Importing the environments is quick: a process that only scores starts in about a second."""

import subprocess
import sys
from importlib.util import find_spec

HEAVY = {"ray", "torch", "transformers", "vllm"}
LATER = {"pandas", "pyarrow", "datasets", "math_verify", "sympy", "cloudpickle", "reasoning_gym"}

PACKAGE = "import rllib_dapo.envs"
EVERY_ENVIRONMENT = """
import importlib, gymnasium, rllib_dapo.envs
for name, spec in gymnasium.registry.items():
    if name.startswith("rllib_dapo/"):
        importlib.import_module(spec.entry_point.partition(":")[0])
gymnasium.make("rllib_dapo/Arithmetic-v0").reset(seed=0)
"""


def loaded_by(program: str) -> set[str]:
    """Runs a program in a fresh interpreter and returns the top names of what it has loaded."""
    command = [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {name.partition(".")[0] for name in printed.split()}


def test_the_package_loads_neither_ray_nor_torch() -> None:
    for name in ("ray", "torch"):  # of what is not installed this would say nothing
        assert find_spec(name) is not None
    loaded = loaded_by(PACKAGE)
    assert {"rllib_dapo", "gymnasium"} <= loaded
    assert not loaded & HEAVY


def test_importing_every_environment_and_making_one_loads_no_library_before_it_is_used() -> None:
    loaded = loaded_by(EVERY_ENVIRONMENT)
    assert not loaded & (HEAVY | LATER)
