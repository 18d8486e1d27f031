"""`check-env` passes what we ship, and finds each of the faults planted here."""

from __future__ import annotations

import importlib
import json
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import pytest
from click.testing import Result
from typer.testing import CliRunner

from rllib_dapo.cli import app
from rllib_dapo.env_check import check_environment as environment_checks
from rllib_dapo.env_check import environment_probe
from rllib_dapo.env_check.check_environment import check_environment
from rllib_dapo.envs import Problem, SingleStepTextEnv, Verdict
from rllib_dapo.run import tuner

# One fault each, on top of an environment that has none.
FAULTY = """
import itertools, math, random, threading
import gymnasium
from rllib_dapo.envs import Problem, SingleStepTextEnv, TextSpace, Verdict

count = itertools.count()


class Sound(gymnasium.Env):
    observation_space, action_space = TextSpace(1000), TextSpace(200_000)

    def __init__(self, config=None, **kwargs):
        pass

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed = int(self.np_random.integers(100)) if seed is None else seed
        return self.prompt(self.seed), {}

    def prompt(self, seed):
        return f"Say {seed}."

    def step(self, action):
        return "", self.reward(action), True, False, self.info(action)

    def reward(self, action):
        return float(str(self.seed) in action)

    def info(self, action):
        return {}


class IgnoresSeed(Sound):
    def prompt(self, seed):
        return "Say 5."


class DrawsAnew(Sound):
    def prompt(self, seed):
        return f"Say {next(count)}."


class RemembersResponses(Sound):
    said = ""

    def prompt(self, seed):
        return f"Say {seed}{self.said}."

    def reward(self, action):
        self.said = " again" if action == "something" else self.said
        return 0.0


class SharedByCopies(Sound):
    last = {}

    def __init__(self, config=None, **kwargs):
        self.number = len(self.last)
        self.last[self.number] = self

    def prompt(self, seed):
        return f"Say {seed} for number {self.number}."


class OfOneProcess(Sound):
    def prompt(self, seed):
        return f"Say {hash(str(seed)) % 1000}."


class ObservesNumbers(Sound):
    def prompt(self, seed):
        return seed


class StepObservesNone(Sound):
    def step(self, action):
        return None, 0.0, True, False, {}


class NoText(Sound):
    def prompt(self, seed):
        return " "


class NoInfo(Sound):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class SmallAlphabet(Sound):
    action_space = gymnasium.spaces.Text(200_000)


class Infinite(Sound):
    def reward(self, action):
        return math.inf if not action else 0.0


class RewardOfText(Sound):
    def reward(self, action):
        return "1.0"


class NoReason(Sound):
    def reward(self, action):
        return math.nan


class RaisesOnNull(Sound):
    def reward(self, action):
        if chr(0) in action:
            raise ValueError("null byte")
        return 0.0


class ScorerRaises(SingleStepTextEnv):
    def problem(self, seed):
        return Problem(prompt=f"Say {seed}.", answer=str(seed), problem_id=str(seed))

    def score(self, problem, response):
        return Verdict(is_correct=int(response) == int(problem.answer))


class CorrectAsText(Sound):
    def info(self, action):
        return {"is_correct": "yes"}


class NeverEnds(Sound):
    def step(self, action):
        return "go on", 0.0, False, False, {}


class NeverReturns(Sound):
    def reward(self, action):
        if len(action) > 50_000:
            threading.Event().wait()
        return 0.0


class Slow(Sound):
    def prompt(self, seed):
        threading.Event().wait(0.03)
        return super().prompt(seed)


class FourValues(Sound):
    def step(self, action):
        return "", 0.0, True, {}


class NoSeeding(Sound):
    def reset(self, *, seed=None, options=None):
        self.seed = seed or 0
        return self.prompt(self.seed), {}


class FailsToStart(Sound):
    def __init__(self, config=None, **kwargs):
        raise RuntimeError("no licence")
"""

FOUND = {
    "IgnoresSeed": "12 different seeds gave 1 different prompts",
    "DrawsAnew": "reset(seed=0) gave 'Say ",
    "RemembersResponses": "after other episodes 'Say 0 again.'",
    "SharedByCopies": "two environments with the same settings give different prompts for seed 0",
    "OfOneProcess": "in another process",
    "ObservesNumbers": "reset observes int, not text: 0",
    "StepObservesNone": "step observes NoneType, not text: None",
    "NoText": "reset gives an empty prompt",
    "NoInfo": "reset returned 'Say 0.'",
    "SmallAlphabet": "does not hold the response",
    "Infinite": "step('') gave the reward inf, which is no finite number",
    "RewardOfText": "step('') gave the reward '1.0', which is no finite number",
    "NoReason": "step('') gave the reward NaN, which means that there is no verdict, but not why",
    "RaisesOnNull": r"step('\x00') raised ValueError: null byte",
    "ScorerRaises": "step(''): crash: the scorer raised ValueError: invalid literal for int()",
    "CorrectAsText": "step('') gave info['is_correct'] = 'yes'",
    "NeverEnds": "an episode of 100 responses '' did not end",
    "NeverReturns": "did not return within 2 s",
    "Slow": " s (median of 5); 0.01 s is a lot",
    "FourValues": "step('') returned ('', 0.0, True, {})",
    "NoSeeding": "Gymnasium's checker",
    "FailsToStart": "making it raised RuntimeError: no licence",
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "faulty_envs.py").write_text(FAULTY)
    sys.path.insert(0, str(folder))
    return importlib.import_module("faulty_envs")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the other process, which takes seconds to start; and what the command does to its process is left out."""
    monkeypatch.setattr(environment_checks, "_check_processes", lambda *_: None)
    monkeypatch.setattr(tuner, "silence", lambda: None)


def test_an_environment_without_a_fault_has_none(faulty: ModuleType) -> None:
    assert check_environment(faulty.Sound) == []


def told(*arguments: str) -> Result:
    """What the command says, in this process, which has imported all that it needs."""
    return CliRunner().invoke(app, ["check-env", *arguments], catch_exceptions=False)


@pytest.mark.usefixtures("quick", "faulty")
@pytest.mark.parametrize("name", [name for name in FOUND if name != "OfOneProcess"])
def test_a_planted_fault_is_found_with_its_cure(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "Slow":
        monkeypatch.setattr(environment_checks, "RESET_SECONDS", 0.01)
    if name == "NeverReturns":
        monkeypatch.setattr(environment_probe, "PATIENCE_SECONDS", 2.0)
    outcome = told(f"faulty_envs:{name}")
    *lines, last = outcome.output.splitlines()
    faults, cures = lines[::2], lines[1::2]
    assert any(FOUND[name] in fault for fault in faults), outcome.output
    assert all(cure.startswith("    -> ") for cure in cures)
    assert last == f"faulty_envs:{name}: {len(faults)} to mend"
    assert len(cures) == len(faults)
    assert outcome.exit_code == 1


def test_a_problem_that_hangs_on_the_process_is_found(faulty: ModuleType) -> None:
    (found,) = check_environment(faulty.OfOneProcess)
    assert FOUND["OfOneProcess"] in found.fault
    assert "hash()" in found.cure


@pytest.mark.usefixtures("quick")
def test_the_first_fault_does_not_hide_the_next(faulty: ModuleType) -> None:
    class Two(faulty.IgnoresSeed, faulty.Infinite):  # type: ignore[name-defined]
        pass

    faults = [finding.fault for finding in check_environment(Two)]
    assert any(FOUND["IgnoresSeed"] in fault for fault in faults)
    assert any(FOUND["Infinite"] in fault for fault in faults)


def words(prompt: str, response: str) -> float:
    return float(len(response.split()))


class Echo:
    def reset(self, seed: int) -> str:
        return f"Say {seed}."

    def step(self, text: str) -> float:
        return float(len(text) < 10)


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
        {"path": path, "reward": words},
    ),
    "reward sources": lambda path: (
        "rllib_dapo/RewardFunction-v0",
        {"path": path, "reward": {"right": {"rule": "strict"}, "form": {"regex": "^Answer"}}},
    ),
    "reasoning-gym": lambda path: ("rllib_dapo/ReasoningGym-v0", {"task": "leg_counting"}),
}
IN_EVERY_PROCESS = ("math", "reasoning-gym")
NEEDS = {"reasoning-gym": "reasoning_gym", "openenv": "openenv"}


def _need_package_of(name: str) -> None:
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        pytest.skip(f"needs the package {NEEDS[name]}")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in IN_EVERY_PROCESS])
def test_a_shipped_environment_has_no_fault(name: str, problems: str) -> None:
    assert check_environment(*SHIPPED[name](problems)) == []


@pytest.mark.parametrize("name", IN_EVERY_PROCESS)
def test_a_shipped_environment_is_the_same_in_every_process(name: str, problems: str) -> None:
    _need_package_of(name)
    assert check_environment(*SHIPPED[name](problems)) == []


def test_no_shipped_environment_is_left_out(problems: str) -> None:
    checked = {make(problems)[0] for make in SHIPPED.values()} | {"rllib_dapo/OpenEnv-v0"}
    assert checked == {name for name in gymnasium.registry if name.startswith("rllib_dapo/")}


@pytest.fixture
def server() -> Iterator[str]:
    """The address of an OpenEnv server: that of the example."""
    _need_package_of("openenv")
    with runpy.run_path(str(Path(__file__).parents[2] / "examples" / "openenv.py"))[
        "server"
    ]() as url:
        yield url


def test_an_environment_on_a_server_has_no_fault(server: str) -> None:
    assert check_environment("rllib_dapo/OpenEnv-v0", {"url": server}) == []


class ReverseEnv(SingleStepTextEnv):
    """What the README shows."""

    default_settings = {"length": 4}  # noqa: RUF012

    def problem(self, seed: int) -> Problem:
        word = "".join("abcdefgh"[(seed >> shift) % 8] for shift in range(self.settings["length"]))
        return Problem(prompt=f"Reverse {word}: ", answer=word[::-1], problem_id=word)

    def score(self, problem: Problem, response: str) -> Verdict:
        return Verdict(is_correct=response.strip() == problem.answer)


@pytest.mark.usefixtures("quick")
def test_an_environment_of_ones_own_has_no_fault() -> None:
    assert check_environment(ReverseEnv, {"length": 6}) == []


def _command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = "from rllib_dapo.cli import main; main()"
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_command_says_that_all_is_well(tmp_path: Path) -> None:
    done = _command(
        "check-env", "rllib_dapo/Arithmetic-v0", "--set", "env_config.digits=3", folder=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "rllib_dapo/Arithmetic-v0: all is well\n",
        "",
    )


def test_the_command_says_what_to_mend(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FAULTY)
    done = _command("check-env", "mine:Infinite", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "mine:Infinite: 1 to mend\n")
    fault, cure = done.stderr.splitlines()
    assert fault == FOUND["Infinite"]
    assert cure.startswith("    -> return a float")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["rllib_dapo/Arithmatic-v0"], 2, "did you mean 'rllib_dapo/Arithmetic-v0'?"),
        (["nowhere:Env"], 2, "module nowhere cannot be imported"),
        (
            ["rllib_dapo/Arithmetic-v0", "--set", "training.lr=1"],
            2,
            "write it as --set env_config.name=value",
        ),
        (
            ["rllib_dapo/Arithmetic-v0", "--set", "env_config.digit=1"],
            1,
            "making it raised ValueError: ArithmeticEnv: unknown",
        ),
    ],
)
def test_the_command_refuses_what_it_cannot_check(
    arguments: list[str], code: int, message: str
) -> None:
    outcome = told(*arguments)
    assert outcome.exit_code == code
    assert message in outcome.output


def test_the_command_prepares_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": "A", "truth": "1"}, {"text": "B", "truth": "1/2"}, {"text": "C", "truth": "x"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    named = ["--question", "text", "--answer", "truth"]
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        app, ["prepare", "in.jsonl", "out.jsonl", *named], catch_exceptions=False
    )
    assert (done.exit_code, done.output) == (
        0,
        "out.jsonl: 1 as they are, 1 made to ask for an integer; 1 left out\n",
    )
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    done = CliRunner().invoke(
        app, ["prepare", "nowhere.jsonl", "out.jsonl"], catch_exceptions=False
    )
    assert done.exit_code == 2
    assert done.output.startswith("path='nowhere.jsonl': no such file")
