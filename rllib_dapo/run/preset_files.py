"""The run files that come with this package, and where a named run file lies."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from rllib_dapo.findings import SettingsError, suggest


def preset_files() -> dict[str, Path]:
    """The run files that come with this package, by name."""
    folder = Path(str(files("rllib_dapo.tune_configs")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_run_file(name: str, *, beside: Path | None = None) -> Path:
    """Finds a run file: first as a path, then among the presets.

    Args:
        name: A path such as `runs/mine.yaml`, or a preset such as `tiny_arithmetic`.
        beside: Folder that a relative path starts from; the current one by default.

    Raises:
        SettingsError: If there is no such file.
    """
    path, known = Path(name).expanduser(), preset_files()
    there = path if beside is None else beside / path
    if there.is_file():
        return there
    if there.is_dir():
        raise SettingsError(f"{name}: a folder, not a run file{_files_in(there)}")

    preset = path.name.removesuffix(".yaml")  # other dots are part of a name
    if path.parent in (Path(), Path("tune_configs")) and preset in known:
        return known[preset]
    raise SettingsError(
        f"{name}: no such file, nor a preset{suggest(preset, known)}; presets: {', '.join(known)}"
    )


def _files_in(folder: Path) -> str:
    """What may have been meant by a folder."""
    if (folder / "tuner.pkl").exists():
        return (
            "; it holds a run: give its run file with --resume to go on, or the folder to "
            "`rllib-dapo report`"
        )
    files = sorted(folder.glob("*.yaml"))
    return f"; run files in it: {', '.join(map(str, files[:3]))}" if files else ""
