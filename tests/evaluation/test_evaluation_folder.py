"""Whether an interrupted evaluation may continue in its folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_dapo.evaluation.evaluation_folder import open_folder, weights_fingerprint
from rllib_dapo.findings import SettingsError

SETTINGS: dict[str, Any] = {
    "model": "m",
    "k": 4,
    "rollout": {"max_turns": 2},
    "datasets": {"a": {"env": "E"}},
}


def test_a_new_folder_is_made_and_the_same_settings_go_on_in_it(tmp_path: Path) -> None:
    assert open_folder(tmp_path / "new", SETTINGS) is False
    assert open_folder(tmp_path / "new", SETTINGS) is True
    (tmp_path / "empty").mkdir()
    assert open_folder(tmp_path / "empty", SETTINGS) is False


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"k": 8}, "holds an evaluation with k=4, and this one has 8: name another folder"),
        ({"model": "other"}, "with model='m', and this one has 'other'"),
        ({"rollout": {"max_turns": 3}}, "with rollout.max_turns=2, and this one has 3"),
        ({"datasets": {"b": {"env": "E"}}}, "with datasets.b.env=None, and this one has 'E'"),
        (
            {"datasets": {"a": {"env": "E", "limit": 1}}},
            "with datasets.a.limit=None, and this one has 1",
        ),
    ],
)
def test_other_settings_are_refused_by_name(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    open_folder(tmp_path, SETTINGS)
    with pytest.raises(SettingsError, match=re.escape(told)):
        open_folder(tmp_path, SETTINGS | change)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(SettingsError, match="exists already and holds no evaluation"):
        open_folder(tmp_path, SETTINGS)
    with pytest.raises(SettingsError, match="exists already"):
        open_folder(tmp_path / "thesis.tex", SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_weights_are_told_apart_wherever_they_differ(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    weights = np.zeros(2**20, dtype=np.float32)
    seen = set()
    for step in range(3):
        weights += 1e-6  # everywhere, as training does
        weights.tofile(tmp_path / "model.safetensors")
        assert weights_fingerprint(tmp_path) == weights_fingerprint(tmp_path)
        seen.add(weights_fingerprint(tmp_path))
        assert len(seen) == step + 1

    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    assert weights_fingerprint(tmp_path) not in seen
    assert weights_fingerprint("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B"
