"""Where a run lies, and what is kept there beside Tune's own files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from pyarrow.fs import FileType
from ray import cloudpickle, tune

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.findings import SettingsError
from rllib_dapo.ray_internals import get_fs_and_path

_PARAM_SPACE = "param_space.pkl"


def new_run(name: str, storage: str) -> str:
    """The folder of a run that starts now, under a folder or URI."""
    return f"{_absolute(storage)}/{name}_{datetime.now():%Y-%m-%d_%H-%M-%S}"


def newest_run(name: str, storage: str) -> str:
    """The newest run of a name under a folder, or the run that lies in that folder or URI itself.

    Raises:
        SettingsError: If there is none.
    """
    root = _absolute(storage)
    if tune.Tuner.can_restore(root):
        return root

    runs = Path(root).glob(f"{name}_*-*-*_*-*-*")
    found = [path for path in runs if tune.Tuner.can_restore(path)]
    if not found:
        raise SettingsError(
            f"--resume: no run of {name!r} under {storage}: leave out --resume, or name its "
            "--storage"
        )
    return str(max(found, key=lambda path: path.name))


def worker_log_path(folder: str) -> Path:
    """Where a run's worker output is kept: in its folder, or locally where that is a URI."""
    if "://" not in folder:
        return Path(folder) / "workers.log"
    return Path("~/ray_results", folder.rpartition("/")[2], "workers.log").expanduser()


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
