"""Three nodes on one machine: what is lost with a node costs no prompt and no number."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("three_nodes.py")


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """For Ray's files, so that nothing else on this machine finds this cluster; paths are short."""
    folder = Path(tempfile.mkdtemp(prefix="rd", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_nodes_lost_in_a_batch_and_in_a_save(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
    raw_model: Path,
    ray_folder: Path,
    tmp_path: Path,
) -> None:
    done = run_python(
        SCRIPT,
        raw_model,
        tmp_path,
        folder=SCRIPT.parents[2],
        environment={"RAY_TMPDIR": str(ray_folder), "PYTHONPATH": str(SCRIPT.parents[2])},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])

    assert set(found["addresses"]["runners"]) == {found["driver"], "127.0.0.2"}
    assert found["addresses"]["learners"] == ["127.0.0.3", "127.0.0.3"]

    # Lost in the middle of a batch: the same seeds were trained on, to the same weights.
    (seeds, weights), (seeds_with_loss, weights_with_loss) = found["batch"]
    assert seeds_with_loss == seeds == list(range(16))
    assert weights_with_loss == weights

    # Lost in the middle of a save: that one is refused, and the one before goes on as if nothing
    # had happened, from files that were sent to the Learners' new node.
    assert found["cut"] != "saved"
    assert "is not a whole checkpoint" in found["refused"]
    assert found["restored_addresses"]["learners"] == ["127.0.0.5", "127.0.0.5"]
    for undisturbed, restored in (found["restored"], found["after"]):
        assert restored == undisturbed
