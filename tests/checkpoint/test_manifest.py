"""The list of a checkpoint's files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rllib_dapo.checkpoint.manifest import MANIFEST, Manifest, read_manifest


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    manifest = Manifest(
        num_learners=2, sharding="ZeRO 2", fingerprints=[2**60 + 1, -3], files={"a": 3}
    )
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert json.loads((tmp_path / MANIFEST).read_text()) == asdict(manifest)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", MANIFEST]
