"""A folder on the driver's machine, for a Learner that may be on another one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import ray
from ray.tune.utils.file_transfer import sync_dir_between_nodes

_send = partial(sync_dir_between_nodes, force_all=True, max_size_bytes=None)


@contextmanager
def node_folder(
    folder: Path, node_ip: str, *, purpose: Literal["save", "restore"]
) -> Iterator[Path]:
    """Gives the folder itself on its own node, elsewhere a temporary one.

    Args:
        folder: The folder on the node `node_ip`.
        node_ip: Address of the node that has the folder, as Ray knows it.
        purpose: To save, the temporary folder is empty and is sent to that node in the end. To
            restore, it has what the folder holds.
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
            _send(here, temporary, node_ip, str(folder))
