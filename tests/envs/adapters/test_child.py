import copy
import os
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rllib_dapo.envs.adapters.child import Child, ChildError

SCRIPT = """
import json, os, sys, time
print(json.dumps({"ready": os.getpid(), "argument": sys.argv[1:], "set": os.environ.get("SET")}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "hang":
        time.sleep(1000)
    if request["do"] == "exit":
        os._exit(3)
    print(json.dumps({"pid": os.getpid(), **request}), flush=True)
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    children = []

    def make_child(**settings: object) -> Child:
        children.append(Child(script, ["a"], environment={"SET": "1"}, **settings))  # type: ignore[arg-type]
        return children[-1]

    yield make_child
    for child in children:
        child.kill()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_answers_in_one_process_whatever_the_text(make: Callable[..., Child]) -> None:
    child = make()
    odd = "\0\ud800\u202e\n\"{}'" + "x" * 100_000
    answers = [child.ask({"do": "echo", "text": text}, deadline=10) for text in ("a", odd)]
    assert [answer["text"] for answer in answers] == ["a", odd]
    assert len({answer["pid"] for answer in answers}) == 1


def test_it_says_that_it_is_ready_with_its_arguments_and_variables(
    make: Callable[..., Child],
) -> None:
    hello = make().start()
    assert (hello["argument"], hello["set"]) == (["a"], "1")


def test_one_that_misses_its_deadline_is_killed_and_the_next_request_starts_another(
    make: Callable[..., Child],
) -> None:
    child = make()
    pid = child.ask({"do": "echo"}, deadline=10)["pid"]
    began = time.monotonic()
    with pytest.raises(ChildError, match=r"^timeout: no answer within 0\.2 s$"):
        child.ask({"do": "hang"}, deadline=0.2)
    assert time.monotonic() - began < 5
    assert not is_alive(pid)
    assert child.ask({"do": "echo"}, deadline=10)["pid"] != pid


def test_one_that_dies_is_told_and_replaced(make: Callable[..., Child]) -> None:
    child = make()
    with pytest.raises(ChildError, match=r"^crash: the process ended$"):
        child.ask({"do": "exit"}, deadline=10)
    pid = child.ask({"do": "echo"}, deadline=10)["pid"]
    os.kill(pid, 9)
    while is_alive(pid):
        os.waitpid(pid, os.WNOHANG) if child._process is None else child._process.poll()
    assert child.ask({"do": "echo"}, deadline=10)["pid"] != pid


def test_a_script_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("raise SystemExit(1)")
    with pytest.raises(ChildError, match=r"^crash: the process ended$"):
        Child(tmp_path / "script.py").start()


def test_closing_ends_the_process_and_closing_again_does_nothing(
    make: Callable[..., Child],
) -> None:
    child = make()
    pid = child.start()["ready"]
    child.close()
    child.close()
    assert not is_alive(pid)


def test_a_forgotten_child_ends(make: Callable[..., Child], tmp_path: Path) -> None:
    child = Child(tmp_path / "script.py")
    pid = child.start()["ready"]
    del child
    assert not is_alive(pid)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda child: pickle.loads(pickle.dumps(child))]
)
def test_a_copy_has_a_process_of_its_own(
    make: Callable[..., Child], duplicate: Callable[[Child], Child]
) -> None:
    child = make()
    pid = child.ask({"do": "echo"}, deadline=10)["pid"]
    twin = duplicate(child)
    assert twin.ask({"do": "echo"}, deadline=10)["pid"] != pid
    assert child.ask({"do": "echo"}, deadline=10)["pid"] == pid
    twin.kill()
