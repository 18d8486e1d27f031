import time
from collections.abc import Callable
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
LONGEST_WAIT = 120.0  # seconds; only where something is broken is it waited for so long


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Finds a file of real problems, which this repository does not ship."""

    def find(name: str) -> Path:
        file = SHARED_DATA / name
        if not file.is_file():
            pytest.skip(f"needs real problems in {file}")
        return file

    return find


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Waits until a condition holds: what another process does takes as long as it takes."""

    def wait(condition: Callable[[], object]) -> None:
        until = time.monotonic() + LONGEST_WAIT
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.01)

    return wait
