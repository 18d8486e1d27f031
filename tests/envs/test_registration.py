import subprocess
import sys

import gymnasium
import pytest

import rllib_dapo.envs


@pytest.mark.parametrize("name", ["rllib_dapo/Arithmetic-v0", "rllib_dapo/Math-v0"])
def test_importing_the_package_registers_its_environments(name: str) -> None:
    assert gymnasium.spec(name).id == name


@pytest.mark.filterwarnings("error")
def test_registering_again_changes_nothing() -> None:
    before = gymnasium.spec("rllib_dapo/Math-v0")
    rllib_dapo.envs.register_environments()
    assert gymnasium.spec("rllib_dapo/Math-v0") is before


def test_an_id_can_name_the_module_that_registers_it() -> None:
    assert gymnasium.make("rllib_dapo.envs:rllib_dapo/Arithmetic-v0").reset(seed=1)[0].endswith("=")


def test_importing_the_package_and_making_an_environment_loads_nothing_heavy() -> None:
    code = (
        "import sys, gymnasium, rllib_dapo.envs.math; gymnasium.make('rllib_dapo/Arithmetic-v0').reset(seed=0);"
        "print(sorted({'ray', 'torch', 'vllm', 'transformers', 'pandas', 'pyarrow', 'math_verify'} & set(sys.modules)))"
    )
    # The parent package may import what it likes; a stand-in for it leaves this room alone in the
    # process.
    setup = (
        "import sys, types; p = types.ModuleType('rllib_dapo');"
        f"e = types.ModuleType('x'); p.__path__ = []; sys.modules['rllib_dapo'] = p;"
        "import importlib.util as u;"
        f"s = u.spec_from_file_location('rllib_dapo.envs', {rllib_dapo.envs.__file__!r},"
        f" submodule_search_locations={list(rllib_dapo.envs.__path__)!r});"
        "m = u.module_from_spec(s); sys.modules['rllib_dapo.envs'] = m; s.loader.exec_module(m);"
    )
    done = subprocess.run(
        [sys.executable, "-c", setup + code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
