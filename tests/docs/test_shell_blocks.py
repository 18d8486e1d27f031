"""Every command that a page shows is one: its arguments are read, its run file is checked.

`make test-exhaustive` also runs the blocks, with small settings for what trains.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from configparser import ConfigParser
from pathlib import Path

import pytest
import ray
from click import Group
from ray.scripts.scripts import cli as ray_command_line

from tests.docs.blocks import REPO, Block, all_blocks, blocks_of
from tests.docs.given import write_given
from tests.docs.shell import OWN, Call, check_own, output_of, recorded, run_small

BLOCKS = all_blocks("sh", "console")
OWN_COMMAND = re.compile(r"^(?:\$ )?\S*rllib-dapo ", re.MULTILINE)
RUN = [block for block in BLOCKS if "not" not in block.note and OWN_COMMAND.search(block.code)]
SETUP = (REPO / "tools" / "setup.sh").read_text()


def _check_make(words: Sequence[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.MULTILINE)
    assert set(words) <= set(targets)


def _check_python(words: Sequence[str]) -> None:
    if words[:2] == ("-m", "rllib_dapo"):
        check_own(words[2:])
    else:
        assert (REPO / words[0]).is_file()


def _check_pip(words: Sequence[str]) -> None:
    """Extras are those of setup.cfg, and pins those that the set-up installs."""
    config = ConfigParser()
    config.read(REPO / "setup.cfg")
    extras = {extra for word in words for extra in re.findall(r"\.\[(.+)\]", word)}
    assert {e for names in extras for e in names.split(",")} <= set(
        config["options.extras_require"]
    )
    assert [word for word in words if "==" in word and word not in SETUP] == []


def _check_ray(words: Sequence[str]) -> None:
    own = list(words[words.index("--") :]) if "--" in words else []
    command, rest = ray_command_line, list(words)
    while isinstance(command, Group):
        command, rest = command.commands[rest[0]], rest[1:]

    command.make_context(words[0], rest)
    if own:
        _check_python(tuple(own[2:]))


def _check_nothing(words: Sequence[str]) -> None:
    """Of a program of the system's."""


CHECKS: dict[str, Callable[[Sequence[str]], None]] = {
    OWN: check_own,
    "make": _check_make,
    "python": _check_python,
    "pip": _check_pip,
    "ray": _check_ray,
    "cp": _check_nothing,
}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.id)
def test_a_command_takes_the_arguments_that_a_page_shows(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Call] = recorded(block, tmp_path)
    assert calls
    write_given(tmp_path, block.page)
    monkeypatch.chdir(tmp_path)
    for call in calls:
        CHECKS[call.program](call.arguments)


def test_a_command_that_is_wrong_is_found(tmp_path: Path) -> None:
    words = ("train", "tiny_arithmetic", "--set", "training.epsilon_hig=0.3")
    with pytest.raises(ValueError, match="epsilon_hig"):
        check_own(words)
    with pytest.raises(Exception, match="No such option: --stor"):
        check_own(("train", "tiny_arithmetic", "--stor", "runs"))
    with pytest.raises(AssertionError):
        _check_make(("tests",))


@pytest.mark.exhaustive
@pytest.mark.parametrize("block", RUN, ids=lambda block: block.id)
def test_the_commands_of_a_block_run(
    block: Block, tmp_path: Path, trained: dict[str, object]
) -> None:
    write_given(tmp_path, block.page, small=True)
    done = run_small(block, trained, tmp_path)
    if block.language == "console":
        assert done.stdout == output_of(block), done.stderr
    else:
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_sections_that_show_commands_are_read(tmp_path: Path) -> None:
    (block,) = (b for b in blocks_of("README.md") if b.name == "two-commands")
    assert recorded(block, tmp_path) == [Call("make", ("demo",)), Call("make", ("test",))]


def test_an_image_has_the_ray_that_is_pinned() -> None:
    (block,) = all_blocks("dockerfile")
    (image,) = re.findall(r"^FROM rayproject/ray:(\S+)$", block.code, re.MULTILINE)
    assert image.startswith(f"{ray.__version__}-")
    (extras,) = re.findall(r"pip install \".*\[(.+)\]\"", block.code)
    _check_pip((f".[{extras}]",))
