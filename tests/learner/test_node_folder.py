"""What Learners on other machines have sent is put together; see also the run on three nodes."""

from __future__ import annotations

from pathlib import Path

from rllib_dapo.learner.node_folder import ARRIVING, drop_arrived, take_arrived


def _send(folder: Path, sender: int, *files: str) -> None:
    for file in files:
        target = folder / ARRIVING / str(sender) / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"from {sender}")


def test_parts_of_all_senders_are_put_together_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "ranks").mkdir()
    (tmp_path / "ranks" / "0.pt").write_text("written here")
    _send(tmp_path, 1, "ranks/1.pt", "ranks/zero/1.pt")
    _send(tmp_path, 2, "ranks/2.pt", "ranks/zero/2.pt")
    take_arrived(tmp_path)

    found = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    names = {"0.pt", "1.pt", "2.pt", "zero/1.pt", "zero/2.pt"}
    assert found == {f"ranks/{name}" for name in names}
    assert (tmp_path / "ranks" / "0.pt").read_text() == "written here"
    assert (tmp_path / "ranks" / "zero" / "2.pt").read_text() == "from 2"
    assert not (tmp_path / ARRIVING).exists()


def test_a_save_that_was_cut_leaves_nothing_to_the_next_one(tmp_path: Path) -> None:
    _send(tmp_path, 1, "ranks/1.pt")
    drop_arrived(tmp_path)
    take_arrived(tmp_path)  # nothing has been sent
    assert list(tmp_path.iterdir()) == []
