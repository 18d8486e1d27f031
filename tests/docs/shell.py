"""Blocks of commands: read by bash itself, with recorders or real programs in its path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from rllib_dapo.cli import app
from rllib_dapo.models.model_cache import default_cache_dir
from rllib_dapo.run.preflight import check_run
from rllib_dapo.run.preset_files import find_run_file
from rllib_dapo.run.run_settings import read_settings
from tests.conftest import PATIENCE_S
from tests.docs.blocks import PROGRAMS, REPO, Block
from tests.docs.given import fill_in

# What `rllib-dapo train` is given in front of a block's own settings, so that it takes seconds.
SMALL: dict[str, object] = {
    "stop.training_iteration": 2,
    "training.prompts_per_step": 4,
    "training.group_size": 4,
    "training.minibatch_size": 8,
    "evaluation.evaluation_interval": None,
    "evaluation.evaluate_before_training": False,
    "evaluation.evaluation_config": None,
    "dynamic_sampling.enabled": False,
    "tune.metric": "env_runners/accuracy",
    "language_model.num_threads": 1,
}
# There is no network to ask whether a hub has a model.
A_MODEL_THAT_IS_HERE = "language_model.name=tiny"
# Writes its arguments, each ended by a null byte, to the file CALLS.
_RECORDER = """#!/bin/bash
printf '%s\\0' "${0##*/}" "$@" >> "$CALLS"
printf '\\n' >> "$CALLS"
"""
_REAL = """#!/bin/bash
words=("$@")
if [ "$1" = train ]; then words=("${@:1:2}" "${SMALL[@]}" "${@:3}"); fi
exec "$PYTHON" -m rllib_dapo "${words[@]}"
"""
_NOTHING = "#!/bin/bash\n"
OWN = "rllib-dapo"


@dataclass(frozen=True)
class Call:
    """One program that a block starts, with its arguments."""

    program: str
    arguments: tuple[str, ...]


def commands_of(block: Block, code: str) -> str:
    """The commands in the code of a block; those of a console stand after `$`."""
    if block.language == "sh":
        return code
    return "\n".join(line[2:] for line in code.splitlines() if line.startswith("$ "))


def output_of(block: Block) -> str:
    """What a console shows beside the commands."""
    return "".join(f"{line}\n" for line in block.code.splitlines() if not line.startswith("$ "))


def _programs(folder: Path, scripts: Mapping[str, str]) -> Path:
    """A folder with programs, and `.venv/bin` beside it as another name for them."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, script in scripts.items():
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    return programs


def _run(
    text: str, folder: Path, programs: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    path = f"{programs}:/usr/bin:/bin"
    return subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def recorded(block: Block, folder: Path) -> list[Call]:
    """What a block would start. Nothing is started.

    Args:
        block: Commands.
        folder: An empty folder.
    """
    programs = _programs(folder, dict.fromkeys(PROGRAMS, _RECORDER))
    calls = folder / "calls"
    done = _run(
        commands_of(block, block.code),
        folder,
        programs,
        {"CALLS": str(calls), "PATH": str(programs)},
    )
    assert done.returncode == 0, done.stderr
    lines = calls.read_text().split("\0\n")[:-1]
    return [Call(words[0], tuple(words[1:])) for words in (line.split("\0") for line in lines)]


def run_small(
    block: Block, places: Mapping[str, object], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Runs the commands of a block; those that train with small settings.

    What is not this package's (make, pip, ray) is not run.

    Args:
        block: Commands, and settings of their own.
        places: What stands for names such as MODEL.
        folder: The folder to run in, which is also the home.
    """
    small = {**SMALL, **block.note.get("set", {})}
    words = [
        f"--set '{name}={value if isinstance(value, str) else json.dumps(value)}'"
        for name, value in small.items()
    ]
    real = _REAL.replace("words=(", f"SMALL=({' '.join(words)})\nwords=(", 1)
    others = dict.fromkeys(set(PROGRAMS) - {"cp"}, _NOTHING)
    programs = _programs(folder, {**others, OWN: real})

    environment = {
        "PYTHON": sys.executable,
        "PYTHONPATH": str(REPO),
        "HOME": str(folder),
        "RLLIB_DAPO_CACHE": str(default_cache_dir()),
        "RLLIB_DAPO_DASHBOARD": "0",
        "OMP_NUM_THREADS": "1",
    }
    text = commands_of(block, fill_in(block.small_code, places))
    return _run(text, folder, programs, environment)


def check_own(words: Sequence[str]) -> None:
    """A command of this package takes its arguments; a run file passes the checks of `train`."""
    command = typer.main.get_command(app).commands[words[0]]
    given = command.make_context(words[0], list(words[1:])).params
    if words[0] in ("train", "plan"):
        sets, own = given["set_"] or [], [A_MODEL_THAT_IS_HERE] if words[0] == "train" else []
        settings = read_settings(find_run_file(given["file"]), [*sets, *own])
        if own:
            check_run(settings, available={})
