"""The source archive holds the whole project, and the wheel the whole package."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
# What the other targets of make leave in a checkout, and what git and CI alone need.
NOT_PACKED = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "outputs", "spool"
)

pytestmark = pytest.mark.slow


def _files(folder: Path) -> set[str]:
    """Paths of all files in a folder, those behind links too."""
    return {
        str(Path(parent, name).relative_to(folder))
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
    }


def _build(source: Path, kind: str, target: Path) -> Path:
    """Builds an `sdist` or a `wheel` as pip would, with the setuptools that is installed here."""
    script = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", script, str(target)],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this project to build in, because a build writes into its folder."""
    copy = tmp_path_factory.mktemp("checkout") / "rllib-dapo"
    shutil.copytree(REPO, copy, symlinks=True, ignore=NOT_PACKED)
    return copy


@pytest.fixture(scope="module")
def unpacked(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(_build(checkout, "sdist", folder)) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (root,) = (folder / "unpacked").iterdir()
    return root


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that was built from the source archive, as pip does it."""
    return _build(unpacked, "wheel", tmp_path_factory.mktemp("wheel"))


def test_the_source_archive_holds_every_file_of_the_project(checkout: Path, unpacked: Path) -> None:
    wanted = {name for name in _files(checkout) if ".egg-info/" not in name}
    assert wanted - _files(unpacked) == set()


def test_the_source_archive_has_folders_in_the_place_of_links(unpacked: Path) -> None:
    for room in ("envs", "tune_configs"):
        packed = unpacked / "rllib_dapo" / room
        assert not packed.is_symlink()
        assert _files(packed) == _files(unpacked / room)


def test_the_wheel_holds_the_package_and_nothing_else(checkout: Path, wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    packed = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert packed == {f"rllib_dapo/{name}" for name in _files(checkout / "rllib_dapo")}


def test_the_metadata_says_where_the_project_lives(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(archive.read(name))

    links = dict(link.split(", ") for link in metadata.get_all("Project-URL", []))
    assert set(links) >= {"Homepage", "Source", "Documentation", "Changelog"}
    assert all(link.startswith("https://") for link in links.values())

    pictures: Iterable[str] = re.findall(r"!\[[^]]*\]\(([^)]*)\)", metadata.get_payload())
    relative = [picture for picture in pictures if not picture.startswith("https://")]
    assert relative == [], "an index shows the README without the pictures beside it"


@pytest.mark.parametrize("room", ["core", "envs", "tune_configs", "cli"])
def test_the_installed_wheel_can_be_imported(
    room: str, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("target")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, timeout=800)

    script = f"import rllib_dapo.{room}; print(rllib_dapo.{room}.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=target.parent,
        env=os.environ | {"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        timeout=800,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(target)
