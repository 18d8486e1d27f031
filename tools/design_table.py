"""The rooms of the package and what each may import; writes them as the table of docs/design.md.

    python tools/design_table.py            # rewrites the first table under "## Rooms"
    python tools/design_table.py --print    # prints it

What lives in a room is the first line of its docstring. tests/test_layout.py holds the imports to
this table, and docs/design.md to its text.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "rllib_dapo"
PAGE = REPO / "docs" / "design.md"
HEADING = "## Rooms\n"

# Every room, and the rooms that it may import; only those above it, so imports run one way. A room
# is a package or a module right below `rllib_dapo`, or a package in one of these. `rllib_dapo` is
# its `__init__.py`.
ROOMS = {
    "core": "",
    "envs": "",
    "tune_configs": "",
    "findings": "",
    "shell_text": "",
    "threads": "",
    "ray_internals": "",
    "weight_transfer/wire": "findings threads",
    "weight_checksums": "",
    "stored_group": "core",
    "stall_watchdog": "",
    "metrics": "core envs",
    "models": "envs",
    "rollout": (
        "core envs findings models threads ray_internals weight_transfer/wire weight_checksums "
        "stored_group stall_watchdog"
    ),
    "learner": (
        "core envs metrics models stored_group stall_watchdog threads weight_checksums "
        "weight_transfer/wire"
    ),
    "weight_transfer": ("findings learner ray_internals rollout threads weight_transfer/wire"),
    "weight_arrival": "findings weight_checksums rollout learner",
    "planning": "core rollout learner",
    "start_guard": "models learner planning",
    "model_check": "core envs findings learner models",
    "config": "core findings ray_internals models rollout learner",
    "capacity": "core findings models threads rollout learner config",
    "checkpoint": "models learner config",
    "tracking": "core envs ray_internals metrics rollout learner model_check config",
    "device_turns": "rollout learner weight_transfer",
    "algorithm_events": "",
    "failed_setup": "",
    "reset": "algorithm_events config",
    "algorithm": (
        "ray_internals metrics models rollout weight_transfer weight_arrival checkpoint planning"
        " start_guard model_check config capacity tracking device_turns algorithm_events"
        " failed_setup reset"
    ),
    "rllib_dapo": "envs config algorithm",
    "run/search": "findings ray_internals metrics config",
    "run": (
        "envs findings shell_text ray_internals metrics models rollout learner model_check config"
        " capacity algorithm run/search"
    ),
    "env_check": "envs findings ray_internals rollout run",
    "data_report": "envs findings models",
    "evaluation": (
        "core envs findings metrics models threads rollout learner model_check config checkpoint"
        " ray_internals run"
    ),
    "warm_start": (
        "core envs findings metrics models rollout learner planning model_check config checkpoint"
        " ray_internals run evaluation"
    ),
    "replay": "envs findings rollout planning model_check config tracking run",
    "reporting": "envs findings shell_text metrics model_check config tracking run",
    "dashboards": "findings shell_text ray_internals tracking",
    "commands": (
        "envs findings shell_text capacity checkpoint models model_check run env_check data_report"
        " evaluation warm_start replay reporting dashboards"
    ),
    "cli": "run commands",
    "__main__": "cli",
}
# Rooms that may load nothing else from outside of the standard library.
LIBRARIES = {
    "core": "torch",
    "findings": "",
    "shell_text": "",
    "threads": "torch",
    "tune_configs": "",
}


def room_path(room: str) -> Path:
    """The file whose docstring says what a room is for."""
    folder = PACKAGE if room == "rllib_dapo" else PACKAGE / room
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def purpose(room: str) -> str:
    """First line of a room's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(room_path(room).read_text())) or ""
    return docstring.partition("\n")[0].removesuffix(".")


def table() -> str:
    """The rooms as a table in Markdown."""
    lines = ["| room | what lives there | may import |", "| --- | --- | --- |"]
    for room, imports in ROOMS.items():
        name = f"{room}/" if room_path(room).parent.name == Path(room).name else f"{room}.py"
        if room == "rllib_dapo":
            name = "__init__.py"

        allowed = ", ".join(imports.split())
        if room in LIBRARIES:
            alone = f"{LIBRARIES[room]} alone" if LIBRARIES[room] else "the standard library alone"
            allowed = f"{allowed}; {alone}" if allowed else alone
        lines.append(f"| `{name}` | {purpose(room)} | {allowed or 'no other room'} |")
    return "\n".join(lines) + "\n"


def written_table(page: str) -> str:
    """The first table under the heading, as the page has it now."""
    _, _, below = page.partition(HEADING)
    rows = below[below.index("|") :].splitlines(keepends=True)
    end = next((i for i, row in enumerate(rows) if not row.startswith("|")), len(rows))
    return "".join(rows[:end])


def main() -> None:
    """Prints the table, or writes it into the page."""
    if "--print" in sys.argv[1:]:
        sys.stdout.write(table())
        return
    page = PAGE.read_text()
    PAGE.write_text(page.replace(written_table(page), table(), 1))


if __name__ == "__main__":
    main()
