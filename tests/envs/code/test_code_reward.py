"""Programs are run against the tests of their problem, and the verdict is what they deserve."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.envs.adapters.reward_function import RewardFunctionEnv
from rllib_dapo.envs.code import bubblewrap, sandbox_trial
from rllib_dapo.envs.code import sandbox as code_sandbox
from rllib_dapo.envs.code.code_limits import CodeLimits
from rllib_dapo.envs.code.code_reward import code_reward
from rllib_dapo.envs.code.syscall_filter import syscall_filter

Judge = Callable[..., Any]
SUMS = {"inputs": ["1 2\n", "19 23\n"], "outputs": ["3\n", "42\n"]}
ADD = "def add(a, b):\n    return a + b"
PRINT = "print(sum(map(int, input().split())))"
CHECK = "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(5, 5) == 10"
PAIRS = """
class Pair:
    def __init__(self, a, b):
        self.a, self.b = a, b

def longest(pairs):
    return max(pairs, key=lambda pair: pair.b - pair.a)
"""

# No process alone takes more than it may.
GROWS = """
import os, time
os.fork()
x = bytearray(180 << 20)
for i in range(0, len(x), 4096):
    x[i] = 1
time.sleep(999)
"""


@pytest.mark.parametrize(
    ("tests", "program", "prompt"),
    [
        (SUMS, PRINT, ""),
        (SUMS, "import sys\nprint(sum(map(int, sys.stdin.read().split())))\nexit()", ""),
        (SUMS, f"def main():\n    {PRINT}\nif __name__ == '__main__':\n    main()", ""),
        ({"inputs": [[1, 2]], "outputs": [3], "fn_name": "add"}, ADD, ""),
        ({"inputs": [[1, 2]], "outputs": [[3]], "fn_name": "add"}, ADD, ""),
        (
            {"inputs": [[[1, 2], "x"]], "outputs": [[[1, "x"], 2]], "fn_name": "f"},
            "class Solution:\n    def f(self, a, b):\n        return (a[0], b), 2",
            "",
        ),
        (["assert add(1, 2) == 3", "assert add('a', 'b') == 'ab'"], ADD, ""),
        (["assert sum(10, 15) == 25"], "def sum(a, b):\n    return a + b", ""),
        (CHECK, ADD, "def add(a, b):\n    '''Adds two numbers.'''\n"),
        ({"test": CHECK, "entry_point": "add"}, ADD, ""),
        (["assert longest([Pair(1, 9), Pair(2, 3)]).b == 9"], PAIRS, ""),
        (
            ["import math\nassert math.isclose(half(3), 1.5) and set(half.__class__.__mro__)"],
            "def half(x):\n    return x / 2",
            "",
        ),
        (
            ["try:\n    f(0)\nexcept ZeroDivisionError:\n    pass\nelse:\n    assert False"],
            "def f(x):\n    return 1 / x",
            "",
        ),
        ("from solution import add\ndef test_sum():\n    assert add(1, 2) == 3\n", ADD, ""),
        (
            ["assert f([3, 1]) == 1"],
            "def f(x: List[int]) -> Optional[int]:\n    return min(Counter(x))",
            "",
        ),
        (["assert gcd(4, 6) == 2"], "from math import gcd", ""),
        (["assert list(count(3)) == [0, 1, 2]"], "def count(n):\n    yield from range(n)", ""),
        (["assert big(4000) == 7 ** 4000"], "def big(n):\n    return 7 ** n", ""),
        (
            ["assert kinds() == ((1,), {2}, {'a': [None, True]}, b'x', 1j, float('inf'))"],
            "def kinds():\n    return (1,), {2}, {'a': [None, True]}, b'x', 1j, float('inf')",
            "",
        ),
    ],
)
def test_a_right_program_is_correct(
    judge_program: Judge, tests: Any, program: str, prompt: str
) -> None:
    verdict = judge_program(tests, program, prompt=prompt)
    assert (verdict.is_correct, verdict.reason) == (True, "")


@pytest.mark.parametrize(
    ("tests", "program", "reason"),
    [
        (SUMS, "print(3)", "another output than expected"),
        (SUMS, "", "another output than expected"),
        (SUMS, "print(", "ended with status 1"),
        (SUMS, f"{PRINT}\nraise SystemExit(3)", "ended with status 3"),
        (SUMS, f"{PRINT}\nimport os\nos.kill(os.getpid(), 9)", "ended with status 137"),
        (["assert add(1, 2) == 3"], "def add(a, b):\n    return a", "AssertionError"),
        (["assert add(1, 2) == 3"], "def plus(a, b):\n    return 3", "the program defines no add"),
        (["assert add(1, 2) == 3"], "def add(a, b):\n    return c", "NameError"),
        (["assert add(1, 2) == 3"], "import nowhere", "ModuleNotFoundError"),
        (
            "def test_sum():\n    assert add(1, 2) == 3\n",
            "def add(a, b):\n    return 4",
            "AssertionError",
        ),
        (["assert gcd(4, 6) == 2"], "pass", "the program defines no gcd"),
        (["assert add(1, 2)"], "def add(a, b):\n    raise SystemExit(0)", "SystemExit"),
        (
            {"inputs": [[1, 2]], "outputs": [3], "fn_name": "add"},
            "def add(a, b):\n    return 4",
            "another value than expected",
        ),
    ],
)
def test_a_wrong_program_is_wrong_and_the_reason_is_told(
    judge_program: Judge, tests: Any, program: str, reason: str
) -> None:
    verdict = judge_program(tests, program)
    assert verdict.is_correct is False
    assert reason in verdict.reason


def test_without_a_program_a_response_is_wrong(sandbox: None, judge_program: Judge) -> None:
    assert judge_program(SUMS, "x\n```\n```text\nno").is_correct is False


@pytest.mark.parametrize(
    ("tests", "passed"),
    [
        ({"inputs": ["1 2", "4 4", "3 0"], "outputs": ["3", "9", "3"]}, 2),
        (["assert add(1, 2) == 3", "assert add(4, 4) == 9", "assert add(3, 0) == 3"], 2),
    ],
)
def test_the_share_of_passed_tests_is_the_reward_where_that_is_asked_for(
    judge_program: Judge, tests: Any, passed: int
) -> None:
    program = f"{ADD}\nif __name__ == '__main__':\n    print(add(*map(int, input().split())))"
    verdict = judge_program(tests, program, partial=True)
    assert (verdict.is_correct, verdict.reward) == (False, pytest.approx(passed / 3))
    assert judge_program(tests, program, partial=True, max_tests=1).reward == 1.0
    assert judge_program(tests, program, max_tests=1).is_correct is True
    assert judge_program(tests, program).reward is None


def test_a_test_that_no_program_can_be_given_leaves_the_verdict_open(
    judge_program: Judge,
) -> None:
    verdict = judge_program(["assert apply(lambda x: x, 3) == 3"], "def apply(f, x): return f(x)")
    assert verdict.is_correct is None
    assert "the problem's tests: UnsendableValue: a value of the type function" in verdict.reason


def test_a_test_that_raises_by_itself_is_not_passed(judge_program: Judge) -> None:
    verdict = judge_program(["assert add(1, 2) == 3 and 1 / 0"], ADD)
    assert (verdict.is_correct, verdict.reason) == (False, "ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("program", "limits", "reason"),
    [
        ("while True: pass", {"cpu_seconds": 0.3}, "more than 0.3 s of CPU time"),
        ("import time; time.sleep(999)", {"wall_seconds": 0.3}, "more than 0.3 s by the clock"),
        ("print('x' * 3000000)", {}, "KiB of output"),
        (GROWS, {"memory_mib": 300, "processes": 4}, "more than 300 MiB of memory"),
    ],
)
def test_what_passes_a_limit_is_wrong_never_missing(
    judge_program: Judge, program: str, limits: dict[str, float], reason: str
) -> None:
    verdict = judge_program(SUMS, program, **limits)
    assert verdict.is_correct is False
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "perl"}, "reward.tests.code='perl': must be one of python"),
        ({"cpu_seconds": 0}, r"reward.tests.code.cpu_seconds=0: must be a number of seconds"),
        ({"wall_seconds": "1"}, "wall_seconds='1'"),
        ({"memory_mib": 8}, "memory_mib=8: must be from 64"),
        ({"processes": 0}, "processes=0"),
        ({"max_tests": 0}, "max_tests=0: must be at least 1"),
        ({"partial": 1}, "partial=1: must be true or false"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    language = options.pop("language", "python")
    with pytest.raises(ValueError, match=message):
        code_reward("reward.tests.code", language, **options)


@pytest.fixture
def fresh_trial() -> Any:
    """Has the sandbox tried anew, and forgets what came of it."""
    sandbox_trial.try_sandbox.cache_clear()
    yield
    sandbox_trial.try_sandbox.cache_clear()


def refusal() -> str:
    with pytest.raises(ValueError, match=r"^reward\.tests\.code='python': ") as refused:
        code_reward("reward.tests.code", "python")
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_without_bubblewrap_the_setting_is_refused_with_the_way_out(
    fresh_trial: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyseccomp")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "bubblewrap is not installed: apt-get install bubblewrap" in refusal()


def test_without_pyseccomp_the_setting_is_refused_with_the_way_out(
    fresh_trial: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    syscall_filter.cache_clear()
    assert "pyseccomp is not installed" in refusal()


def _show_files(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = bubblewrap._system_libraries
    monkeypatch.setattr(
        bubblewrap, "_system_libraries", lambda: [*libraries(), "--ro-bind", "/home", "/home"]
    )


def _allow_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyseccomp

    with tempfile.TemporaryFile() as file:
        pyseccomp.SyscallFilter(pyseccomp.ALLOW).export_bpf(file)
        file.seek(0)
        content = file.read()
    monkeypatch.setattr(code_sandbox, "syscall_filter", lambda: content)


def _allow_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = CodeLimits.of_resources
    monkeypatch.setattr(
        CodeLimits,
        "of_resources",
        lambda self, **options: bounded(self, **options) | {"NPROC": 10_000},
    )


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (_show_files, "files of the machine can be seen"),
        (_allow_every_call, "sockets can be opened"),
        (_allow_any_number, "the number of processes has no bound"),
    ],
)
def test_a_sandbox_that_does_not_hold_is_refused(
    sandbox: None,
    fresh_trial: None,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    message: str,
) -> None:
    plant(monkeypatch)
    assert f"the sandbox does not hold: {message}" in refusal()


def test_a_sandbox_that_cannot_be_started_any_more_leaves_verdicts_open(
    judge_program: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert judge_program(SUMS, PRINT).is_correct is True
    monkeypatch.setenv("PATH", "/nowhere")
    verdict = judge_program(SUMS, PRINT)
    assert (verdict.is_correct, verdict.reward) == (None, None)
    assert verdict.reason == "crash: no sandbox: bubblewrap is not installed"


def test_one_line_of_settings_runs_programs_in_an_environment(
    sandbox: None, tmp_path: Path
) -> None:
    path = tmp_path / "problems.jsonl"
    rows = [
        {"prompt": "Add.", "test_list": ["assert add(1, 2) == 3"]},
        {"prompt": "Print.", "test_list": json.dumps(SUMS)},
        {"prompt": "Broken.", "test_list": ["add(1, 2) == 3"]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    env = RewardFunctionEnv(
        path=str(path), columns={"answer": "test_list"}, reward={"tests": {"code": "python"}}
    )
    assert env.scores_apart
    (left_out,) = env.data_report.findings
    assert (left_out.reason, left_out.rows) == ("tests that cannot be read", 1)

    rewards = {}
    for seed in range(2):
        prompt, _ = env.reset(seed=seed)
        for name, program in (("add", ADD), ("print", PRINT)):
            env.reset(seed=seed)
            _, rewards[prompt, name], _, _, _ = env.step(f"```python\n{program}\n```")
    env.close()
    right = {("Add.", "add"), ("Print.", "print")}
    assert rewards == {key: 1.0 if key in right else -1.0 for key in rewards}


def test_files_without_a_test_are_refused(sandbox: None, tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text(json.dumps({"prompt": "Add.", "answer": "3"}))
    with pytest.raises(ValueError, match=r"not one of 1 problems has tests.*columns=") as refused:
        RewardFunctionEnv(path=str(path), reward={"tests": {"code": "python"}})
    assert "\n" not in str(refused.value)


ORDINARY = """
import os, sys
from pathlib import Path

from rllib_dapo.envs.code import sandbox, sandbox_trial
from rllib_dapo.envs.code.code_limits import CodeLimits
from rllib_dapo.envs.code.syscall_filter import syscall_filter

syscall_filter()
sandbox.interpreter = lambda: Path(sys.argv[1])
if child := os.fork():  # without the threads of libraries, which forbid a new namespace
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os.setgroups([])
os.setgid(12345)
os.setuid(12345)
if sys.argv[2] == "root of a namespace":
    import ctypes

    assert ctypes.CDLL(None).prctl(4, 1, 0, 0, 0) == 0  # its own files in /proc are its own again
    assert ctypes.CDLL(None).unshare(0x10000000) == 0
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text("0 12345 1")
    Path("/proc/self/gid_map").write_text("0 12345 1")
    assert os.geteuid() == 0
print(sandbox_trial.try_sandbox(CodeLimits()) or "holds", flush=True)
"""


@pytest.mark.parametrize("who", ["an ordinary user", "root of a namespace"])
def test_the_sandbox_holds_for_others_than_root(
    sandbox: None, run_python: Callable[..., Any], tmp_path: Path, who: str
) -> None:
    python = Path("/usr/bin", f"python3.{sys.version_info.minor}")
    if os.geteuid() != 0 or not python.is_file():
        pytest.skip("needs root, to become somebody else, and the system's own Python")
    done = run_python("-c", ORDINARY, python, who, folder=tmp_path)
    assert done.stdout == "holds\n", done.stderr
