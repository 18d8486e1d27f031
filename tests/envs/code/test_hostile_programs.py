"""Nothing that a program does reaches beyond the sandbox, and each has its verdict."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from rllib_dapo.envs.adapters.reward_function import RewardFunctionEnv
from rllib_dapo.envs.base import Problem
from tests.envs.code.corpus import SECRET, Canary, HostileProgram, canary, hostile_programs

PROGRAMS = hostile_programs()
STDIO = json.dumps({"inputs": ["1 2\n", "19 23\n"], "outputs": ["3\n", "42\n"]})
CALLED = json.dumps(
    [
        "assert add(1, 2) == 3",
        "assert add(19, 23) == 42 and add(0, 0) != 1",
        "assert 7 in [add(3, 4)]",
    ]
)
HONEST = """
def add(a, b):
    return a + b

if __name__ == "__main__":
    print(add(*map(int, input().split())))
"""
# What is right must be right on a busy machine too.
TIGHT = {"cpu_seconds": 0.5, "wall_seconds": 1.0, "memory_mib": 128}
GENEROUS = {"cpu_seconds": 60, "wall_seconds": 600, "memory_mib": 128}


def make_env(folder: Path, options: dict[str, float]) -> RewardFunctionEnv:
    path = folder / "problems.jsonl"
    path.write_text(json.dumps({"prompt": "Add two numbers.", "tests": json.loads(STDIO)}))
    return RewardFunctionEnv(
        path=str(path),
        columns={"answer": "tests"},
        reward={"tests": {"code": "python", **options}},
        verify_processes=2,
    )


def problem_of(program: HostileProgram) -> Problem:
    answer = CALLED if program.is_called else STDIO
    return Problem(prompt="Add two numbers.", answer=answer, problem_id=program.name)


def sandboxes() -> list[psutil.Process]:
    """Processes of the sandboxes of this process, wherever they hang by now."""
    found = []
    for process in psutil.process_iter(["name", "uids", "status"]):
        uids = process.info["uids"]
        is_one = process.info["name"] == "bwrap" or (uids and uids.real >= 0x4000_0000)
        if is_one and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_the_programs_are_more_than_a_hundred_and_all_different() -> None:
    assert len({program.text for program in PROGRAMS}) == len(PROGRAMS) >= 100
    assert not [name for name, n in Counter(p.name for p in PROGRAMS).items() if n > 1]


@pytest.mark.slow
def test_no_hostile_program_changes_anything_outside_and_each_is_counted(
    sandbox: None, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    before_all = Counter(process.name() for process in psutil.Process().children(recursive=True))
    with canary(tmp_path) as place:
        before = place.state()
        verdicts = verdicts_on_all(tmp_path, place)
        assert place.state() == before

    wrong = {program.name: program.is_right for program in PROGRAMS}
    assert {name: verdict for name, (verdict, _) in verdicts.items() if name in wrong} == wrong
    assert all(verdict for name, (verdict, _) in verdicts.items() if name not in wrong)
    assert not [name for name, (_, told) in verdicts.items() if SECRET in told]

    eventually(lambda: not sandboxes())
    eventually(
        lambda: Counter(p.name() for p in psutil.Process().children(recursive=True)) == before_all
    )


def verdicts_on_all(folder: Path, place: Canary) -> dict[str, tuple[bool | None, str]]:
    """Verdict and what else is told of every program, with an honest one after each tenth."""
    tight, generous = make_env(folder, TIGHT), make_env(folder, GENEROUS)
    tickets = {}
    for number, program in enumerate(PROGRAMS):
        env = generous if program.is_right else tight
        response = f"```python\n{place.filled_in(program.text)}```"
        tickets[program.name] = (env, env.submit_to(problem_of(program), response))
        if number % 10 == 0:
            honest = Problem(prompt="", answer=(STDIO, CALLED)[number % 20 == 0], problem_id="h")
            ticket = generous.submit_to(honest, f"```python\n{HONEST}\n```")
            tickets[f"honest {number}"] = (generous, ticket)

    verdicts = {}
    for name, (env, ticket) in tickets.items():
        _, info = env.collect(ticket)
        verdicts[name] = (info["is_correct"], repr(info))
    tight.close()
    generous.close()
    return verdicts


@pytest.mark.parametrize(
    "name",
    [
        "writes to the tree",
        "overwrites a file",
        "deletes files",
        "connects to a server",
        "connects to a Unix socket",
        "connects to an abstract socket",
        "sends datagrams",
        "lowers everybody's priority",
        "ends a process outside",
    ],
)
def test_outside_of_the_sandbox_the_canary_notices(
    name: str,
    tmp_path: Path,
    run_python: Callable[..., Any],
    eventually: Callable[..., None],
) -> None:
    (program,) = (one for one in PROGRAMS if one.name == name)
    with canary(tmp_path) as place:
        before = place.state()
        assert place.state() == before
        run_python("-c", place.filled_in(program.text), folder=tmp_path)
        eventually(lambda: place.state() != before)


ALONE = """
import os
from rllib_dapo.envs.code.code_limits import CodeLimits
from rllib_dapo.envs.code.sandbox import PROGRAM, Sandbox

sandbox = Sandbox([PROGRAM], files={PROGRAM: "import time; time.sleep(999)"}, limits=CodeLimits())
sandbox.wait_until_ready()
os.kill(os.getpid(), 9)
"""


def test_a_sandbox_ends_with_the_process_that_started_it(
    sandbox: None,
    tmp_path: Path,
    run_python: Callable[..., Any],
    eventually: Callable[..., None],
) -> None:
    assert run_python("-c", ALONE, folder=tmp_path).returncode == -9
    eventually(lambda: not sandboxes())
