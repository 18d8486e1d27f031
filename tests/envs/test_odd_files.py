"""Files of problems as people have them: each is read rightly, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rllib_dapo.envs.datasets import load_dataset
from tests.envs.odd_files import ODD_FILES, OddFile


@pytest.mark.parametrize("odd", ODD_FILES, ids=lambda odd: odd.name)
def test_each_has_the_outcome_that_stands_beside_it(odd: OddFile, tmp_path: Path) -> None:
    path = tmp_path / f"odd{odd.ending}"
    path.write_bytes(odd.content)

    if odd.pairs is not None:
        problems = load_dataset(str(path)).problems
        assert tuple((problem.text, problem.answer) for problem in problems) == odd.pairs
        return

    with pytest.raises(ValueError, match="path=") as refusal:
        load_dataset(str(path))
    assert odd.says in str(refusal.value)
    assert "\n" not in str(refusal.value)
