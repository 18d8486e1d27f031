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
