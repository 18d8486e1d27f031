from collections.abc import Callable
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Finds a file of real problems, which this repository does not ship."""

    def find(name: str) -> Path:
        file = SHARED_DATA / name
        if not file.is_file():
            pytest.skip(f"needs real problems in {file}")
        return file

    return find
