"""A folder on the driver's machine, for a Learner that may be on another one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import ray
from ray.tune.utils.file_transfer import sync_dir_between_nodes

# Where what others send arrives, a folder for each of them, until `take_arrived`.
ARRIVING = "arriving"

_send = partial(sync_dir_between_nodes, force_all=True, max_size_bytes=None)


@contextmanager
def node_folder(
    folder: Path, node_ip: str, *, purpose: Literal["save", "restore"], sender: int
) -> Iterator[Path]:
    """Gives the folder itself on its own node, elsewhere a temporary one.

    Args:
        folder: The folder on the node `node_ip`.
        node_ip: Address of the node that has the folder, as Ray knows it.
        purpose: To save, the temporary folder is empty and is sent to that node in the end; see
            `take_arrived`. To restore, it has what the folder holds.
        sender: A number that no other one who saves has.
    """
    here = ray.util.get_node_ip_address()
    if here == node_ip:
        yield folder
        return

    with tempfile.TemporaryDirectory() as temporary:
        if purpose == "restore":
            _send(node_ip, str(folder), here, temporary)
        yield Path(temporary)
        if purpose == "save":
            # Not into the folder itself: of two that are unpacked into one place at the same time,
            # Ray leaves one out without a word.
            _send(here, temporary, node_ip, str(folder / ARRIVING / str(sender)))


def take_arrived(folder: Path) -> None:
    """Moves what was sent to this node into the folder that it was meant for.

    Args:
        folder: As for `node_folder`, on this node; all who save have come to an end.
    """
    arriving = folder / ARRIVING
    for part in sorted(arriving.glob("*")):
        shutil.copytree(part, folder, copy_function=shutil.move, dirs_exist_ok=True)
    drop_arrived(folder)


def drop_arrived(folder: Path) -> None:
    """Deletes what was sent to this node, as that of a save that did not come to an end."""
    shutil.rmtree(folder / ARRIVING, ignore_errors=True)
