from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rllib_dapo.findings import SettingsError
from rllib_dapo.reporting.write_report import write_report


def test_a_report_is_written_over_a_report_of_before(sweep_folder: Path, tmp_path: Path) -> None:
    files = {
        "output": tmp_path / "page.html",
        "json_file": tmp_path / "run.json",
        "csv_file": tmp_path / "run.csv",
    }
    for _ in range(2):
        write_report(str(sweep_folder), **files)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("option", ["output", "json_file", "csv_file"])
@pytest.mark.parametrize("name", ["run.json", "trial_00000/progress.csv", "workers.log", "mine.md"])
def test_nothing_else_is_written_over(
    sweep_folder: Path, tmp_path: Path, option: str, name: str
) -> None:
    run = Path(shutil.copytree(sweep_folder, tmp_path / "run"))
    (run / "mine.md").write_text("mine\n")
    file = run / name
    before = file.read_bytes()
    with pytest.raises(SettingsError, match="is there already and is no report's") as refused:
        write_report(str(run), **{option: file})
    assert str(file) in str(refused.value)
    assert file.read_bytes() == before


def test_a_folder_and_a_file_that_is_named_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is a folder"):
        write_report("nowhere", json_file=tmp_path)
    with pytest.raises(SettingsError, match="is also the file of --output: name another"):
        write_report("nowhere", output=tmp_path / "a", csv_file=tmp_path / "a")
