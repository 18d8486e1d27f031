"""What every preset resolves to, beside what it resolved to when each was written out in full."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.run.preset_files import preset_files
from rllib_dapo.run.run_settings import read_settings

# For each preset the attributes that differ from DAPOConfig's defaults, and all else in full.
RESOLVED: dict[str, Any] = json.loads(
    (Path(__file__).parent / "resolved_presets.json").read_text(encoding="utf-8")
)
# Search spaces are told by their kind and these of their attributes.
_OF_A_SPACE = ("lower", "upper", "categories", "values", "low", "high")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, str | int | float) or value is None:
        return value
    if isinstance(value, type):
        return value.__name__
    kept = {name: inner for name, inner in vars(value).items() if name in _OF_A_SPACE}
    return {type(value).__name__: _plain(kept)}


def _differences(base: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in sorted(config) if base.get(name, ...) != config[name]}


@pytest.mark.parametrize("name", RESOLVED)
def test_a_preset_resolves_to_what_it_resolved_to_before(name: str) -> None:
    settings = read_settings(preset_files()[name])
    default, config = _plain(DAPOConfig().to_dict()), _plain(settings.config.to_dict())
    resolved = {
        "config": _differences(default, config),
        "checked": [_differences(config, _plain(c.to_dict())) for c in settings.checked],
        "stop": _plain(settings.stop),
        "rules": _plain(dataclasses.asdict(settings.rules)),
        "tune": _plain(dataclasses.asdict(settings.tune)),
        "search": _plain(settings.search),
        "followers": list(settings.followers),
        "data_hint": settings.data_hint,
    }
    assert resolved == RESOLVED[name]


def test_no_two_presets_share_more_than_ten_settings() -> None:
    """What stands in two files stands in neither's base; comments and names of sections aside."""
    lines = {
        name: {
            line.partition("#")[0].rstrip()
            for line in path.read_text(encoding="utf-8").splitlines()
            if ": " in line.partition("#")[0]
        }
        for name, path in preset_files().items()
    }
    for one, settings in lines.items():
        for other, others in lines.items():
            assert one == other or len(settings & others) <= 10, (one, other, settings & others)
