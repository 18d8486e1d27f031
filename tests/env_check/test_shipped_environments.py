"""`check_environment` passes every environment that this package ships."""

from __future__ import annotations

import importlib
import json
import runpy
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from rllib_dapo.env_check.environment_finding import Finding

Check = Callable[..., list[Finding]]


class Echo:
    def reset(self, seed: int) -> str:
        return f"Say {seed}."

    def step(self, text: str) -> float:
        return float(len(text) < 10)


@pytest.fixture
def own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module `own_reward` can be imported, as a user's own code can, in every process."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def problems(tmp_path: Path) -> str:
    path = tmp_path / "problems.jsonl"
    path.write_text(
        "".join(
            json.dumps({"question": f"{i}+{i}?", "answer": str(2 * i)}) + "\n" for i in range(50)
        )
    )
    return str(path)


SHIPPED: dict[str, Callable[[str], tuple[str, dict[str, Any]]]] = {
    "arithmetic": lambda path: ("rllib_dapo/Arithmetic-v0", {}),
    "calculator": lambda path: ("rllib_dapo/CalculatorMath-v0", {}),
    "math": lambda path: ("rllib_dapo/Math-v0", {"path": path}),
    "numeric": lambda path: ("rllib_dapo/Math-v0", {"path": path, "answer_rule": "numeric"}),
    "object": lambda path: ("rllib_dapo/Object-v0", {"object": Echo}),
    "reward function": lambda path: (
        "rllib_dapo/RewardFunction-v0",
        {"path": path, "reward": importlib.import_module("own_reward").words},
    ),
    "reward sources": lambda path: (
        "rllib_dapo/RewardFunction-v0",
        {"path": path, "reward": {"right": {"rule": "strict"}, "form": {"regex": "^Answer"}}},
    ),
    "reasoning-gym": lambda path: ("rllib_dapo/ReasoningGym-v0", {"task": "leg_counting"}),
    "mixture": lambda path: (
        "rllib_dapo/Mixture-v0",
        {
            "environments": [
                {"env": "rllib_dapo/Arithmetic-v0"},
                {"env": "rllib_dapo/Math-v0", "env_config": {"path": path}, "weight": 2},
            ]
        },
    ),
    "gem": lambda path: ("rllib_dapo/Gem-v0", {"task": "game:Mastermind-v0-random"}),
    "textarena": lambda path: ("rllib_dapo/TextArena-v0", {"task": "FifteenPuzzle-v0"}),
    "skyrl-gym": lambda path: (
        "rllib_dapo/SkyRLGym-v0",
        {"task": "gsm8k_multi_turn", "problem_config": {"path": path}},
    ),
    "verifiers": lambda path: ("rllib_dapo/Verifiers-v0", {"task": "sums_taskset"}),
}
NEEDS = {
    "reasoning-gym": "reasoning_gym",
    "openenv": "openenv",
    "gem": "gem",
    "textarena": "textarena",
    "skyrl-gym": "skyrl_gym",
    "verifiers": "verifiers",
}


def _need_package_of(name: str) -> None:
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        pytest.skip(f"needs the package {NEEDS[name]}")


def _marked(name: str) -> Any:
    """The name, or with a mark: a hub's package takes seconds to load in each process."""
    is_hubs = NEEDS.get(name) in ("gem", "textarena", "skyrl_gym", "verifiers")
    return pytest.param(name, marks=pytest.mark.exhaustive) if is_hubs else name


@pytest.mark.usefixtures("own_code")
@pytest.mark.parametrize("name", [_marked(name) for name in SHIPPED])
def test_a_shipped_environment_has_no_fault(name: str, problems: str, check: Check) -> None:
    _need_package_of(name)
    assert check(*SHIPPED[name](problems)) == []


@pytest.mark.usefixtures("own_code")
def test_no_shipped_environment_is_left_out(problems: str) -> None:
    checked = {make(problems)[0] for make in SHIPPED.values()}
    checked |= {"rllib_dapo/OpenEnv-v0", "rllib_dapo/McpTools-v0"}  # with servers, below
    assert checked == {name for name in gymnasium.registry if name.startswith("rllib_dapo/")}


@pytest.fixture
def server() -> Iterator[str]:
    """The address of an OpenEnv server: that of the example."""
    _need_package_of("openenv")
    with runpy.run_path(str(Path(__file__).parents[2] / "examples" / "openenv.py"))[
        "server"
    ]() as url:
        yield url


def test_an_environment_on_a_server_has_no_fault(server: str, check: Check) -> None:
    assert check("rllib_dapo/OpenEnv-v0", {"url": server}) == []
