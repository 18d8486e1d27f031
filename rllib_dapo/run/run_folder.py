"""Where a run lies, and what is kept there beside Tune's own files."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSystem, FileType
from ray import cloudpickle, tune

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.ray_internals import get_fs_and_path

_PARAM_SPACE = "param_space.pkl"
_AT_START = (_PARAM_SPACE, "run.json", "workers.log", "tuner.pkl")  # what a run begins with
_OWNER = "started_by.txt"
_STAMP = "_[0-9]*-[0-9]*-[0-9]*_[0-9]*-[0-9]*-[0-9]*"  # what stands behind a run's name


def check_storage(storage: str) -> None:
    """Tries to write where runs are to be kept, and leaves nothing there.

    Args:
        storage: Folder or URI.

    Raises:
        SettingsError: If that cannot be: an unknown scheme, no rights, another run's folder.
    """
    filesystem, path = _open(storage)
    if filesystem.get_file_info(f"{path}/tuner.pkl").type is FileType.File:
        raise SettingsError(
            f"--storage {storage}: this is the folder of a run: add --resume to go on with it, or "
            "name the folder that it lies in"
        )

    probe = f"{path}/.rllib_dapo_{uuid.uuid4().hex}"
    made = _missing_folders(storage)
    try:
        filesystem.create_dir(path, recursive=True)
        with filesystem.open_output_stream(probe) as file:
            file.write(b"probe")
        filesystem.delete_file(probe)
    # Each file system has errors of its own.
    except Exception as error:
        raise SettingsError(f"--storage {storage}: cannot be written: {one_line(error)}") from error
    finally:
        for folder in made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def new_run(name: str, storage: str) -> str:
    """Makes the folder of a run that starts now, under a folder or URI.

    No two runs get the same one, even if they start in the same second. In a bucket, where nothing
    can be made exclusively, that is so unless they also begin to write within the same instant.

    Raises:
        SettingsError: If the folder cannot be made.
    """
    root = _absolute(storage)
    stem = f"{root}/{name}_{datetime.now():%Y-%m-%d_%H-%M-%S}"
    number = 1
    while True:
        folder = stem if number == 1 else f"{stem}_{number}"
        try:
            if _is_taken_by_us(folder):
                return folder
        except OSError as error:
            raise SettingsError(f"--storage {storage}: {one_line(error)}") from error
        number += 1


def newest_run(name: str, storage: str) -> str:
    """The newest run of a name under a folder, or the run that lies in that folder or URI itself.

    Raises:
        SettingsError: If there is none.
    """
    root = _absolute(storage)
    filesystem, path = _open(storage, option="--resume: --storage")
    if tune.Tuner.can_restore(root):
        return root
    if "://" in root:
        raise SettingsError(
            f"--resume: no run lies in {storage} itself: under a URI, name the run's own folder, "
            "as `train` printed it behind results:"
        )

    runs = Path(root).glob(f"{escape(name)}{_STAMP}")
    found = [folder for folder in runs if tune.Tuner.can_restore(folder)]
    if not found:
        where = "" if filesystem.get_file_info(path).type is FileType.Directory else ", no folder"
        raise SettingsError(
            f"--resume: no run of {name!r} under {storage}{where}: leave out --resume, or name its "
            "--storage"
        )
    return str(max(found, key=_age))


def worker_log_path(folder: str) -> Path:
    """Where a run's worker output is kept: in its folder, or locally where that is a URI."""
    if "://" not in folder:
        return Path(folder) / "workers.log"
    return Path("~/ray_results", folder.rpartition("/")[2], "workers.log").expanduser()


def remove_unused(folder: str) -> None:
    """Removes a run's folder in which no trial has begun."""
    path = Path(folder)
    if "://" in folder or not path.is_dir():
        return
    inside = list(path.iterdir())
    if all(one.is_file() and one.name in _AT_START for one in inside):
        for one in inside:
            one.unlink()
        path.rmdir()


def folder_exists(folder: str) -> bool:
    """Whether a run's folder or URI is there."""
    filesystem, path = get_fs_and_path(folder)
    return bool(filesystem.get_file_info(path).type is not FileType.NotFound)


def keep_param_space(config: DAPOConfig, folder: str) -> None:
    """Writes what trials are made of beside Tune's own state.

    Tune's state holds this only for the trials that exist already. Trials that a resumed sweep has
    yet to make need the whole of it: in its state of the search, Tune has placeholders for whatever
    is neither a number nor a word.
    """
    filesystem, path = get_fs_and_path(folder)
    filesystem.create_dir(path, recursive=True)
    with filesystem.open_output_stream(f"{path}/{_PARAM_SPACE}") as file:
        file.write(cloudpickle.dumps(config.to_dict()))


def kept_param_space(folder: str) -> dict[str, Any] | None:
    """What `keep_param_space` wrote, or None if it did not.

    Like Tune's own state beside it, it is a pickle: resume only runs that you trust.
    """
    filesystem, path = get_fs_and_path(folder)
    if filesystem.get_file_info(f"{path}/{_PARAM_SPACE}").type is FileType.NotFound:
        return None
    with filesystem.open_input_stream(f"{path}/{_PARAM_SPACE}") as file:
        return dict(cloudpickle.loads(file.read()))


def _absolute(storage: str) -> str:
    """A folder as seen from here, because Ray's workers run in other folders; a URI as it is."""
    return storage.rstrip("/") if "://" in storage else str(Path(storage).expanduser().absolute())


def _open(storage: str, *, option: str = "--storage") -> tuple[FileSystem, str]:
    """The file system of a folder or URI, and the path in it.

    Raises:
        SettingsError: If there is no such file system here.
    """
    if not storage.strip():
        raise SettingsError(
            f"{option} {storage!r}: name a folder, or a URI such as s3://bucket/runs"
        )
    try:
        filesystem, path = get_fs_and_path(_absolute(storage))
    except Exception as error:
        raise SettingsError(
            f"{option} {storage}: {one_line(error)}: give a folder, or a URI of a scheme such as "
            "s3://bucket/runs that pyarrow can open here"
        ) from error
    return filesystem, path


def _missing_folders(storage: str) -> list[Path]:
    """The folders that making a local one makes too, the innermost first."""
    if "://" in storage:
        return []
    folder = Path(_absolute(storage))
    return [one for one in (folder, *folder.parents) if not one.exists()]


def _is_taken_by_us(folder: str) -> bool:
    """Makes a run's folder; False if there is one of this name."""
    if "://" not in folder:
        path = Path(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir()
        except FileExistsError:
            return False
        return True

    # Whoever wrote last has it.
    filesystem, path_there = get_fs_and_path(folder)
    if filesystem.get_file_info(path_there).type is not FileType.NotFound:
        return False
    filesystem.create_dir(path_there, recursive=True)
    mark = uuid.uuid4().hex.encode()
    with filesystem.open_output_stream(f"{path_there}/{_OWNER}") as file:
        file.write(mark)
    with filesystem.open_input_stream(f"{path_there}/{_OWNER}") as file:
        return bool(file.read() == mark)


def _age(folder: Path) -> tuple[str, int]:
    """What orders runs by the time of their start: the stamp, then the number behind it."""
    stamp, number = re.findall(r"(_\d+-\d+-\d+_\d+-\d+-\d+)(?:_(\d+))?$", folder.name)[0]
    return stamp, int(number or 1)
