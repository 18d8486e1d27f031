"""A folder on the driver's machine, for a Learner that may be on another one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.tune.utils.file_transfer import sync_dir_between_nodes


@contextmanager
def folder_to_write(folder: Path, node_ip: str) -> Iterator[Path]:
    """Gives the folder itself on its own node, elsewhere a temporary one that is sent there.

    Args:
        folder: The folder on the node `node_ip`.
        node_ip: Address of the node that has the folder, as Ray knows it.
    """
    here = ray.util.get_node_ip_address()
    if here == node_ip:
        yield folder
        return

    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
        sync_dir_between_nodes(
            here, temporary, node_ip, str(folder), force_all=True, max_size_bytes=None
        )


@contextmanager
def folder_to_read(folder: Path, node_ip: str) -> Iterator[Path]:
    """Gives the folder itself on its own node, elsewhere a temporary copy.

    Args:
        folder: The folder on the node `node_ip`.
        node_ip: Address of the node that has the folder, as Ray knows it.
    """
    here = ray.util.get_node_ip_address()
    if here == node_ip:
        yield folder
        return

    with tempfile.TemporaryDirectory() as temporary:
        sync_dir_between_nodes(
            node_ip, str(folder), here, temporary, force_all=True, max_size_bytes=None
        )
        yield Path(temporary)
