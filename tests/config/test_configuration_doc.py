"""docs/configuration.md and the settings are the same."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml

from rllib_dapo import DAPOConfig
from rllib_dapo.config.dapo_config import OWN_SECTIONS, PRESETS, RLLIB_SECTIONS
from rllib_dapo.config.kinds import (
    ATTRIBUTES,
    CHOICES,
    COUNTS,
    FLAGS,
    NUMBERS,
    OPTIONAL,
    attribute_of,
)
from rllib_dapo.run.section_checks import EXTRA_SECTIONS, allowed_settings

TEXT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| `(.+?)` \|", re.MULTILINE)


def _rows(section: str) -> dict[str, str]:
    """The settings of a section's table, and their defaults as text."""
    (chapter,) = re.findall(rf"^## {section}\n(.*?)(?=^## )", TEXT, re.MULTILINE | re.DOTALL)
    return dict(ROW.findall(chapter))


def _own_settings(section: str) -> set[str]:
    parameters = inspect.signature(getattr(DAPOConfig, section)).parameters.values()
    return {p.name for p in parameters if p.name != "self" and p.kind is not p.VAR_KEYWORD}


@pytest.mark.parametrize("section", OWN_SECTIONS)
def test_every_setting_is_documented_and_no_other(section: str) -> None:
    documented = set(_rows(section))
    assert _own_settings(section) <= documented
    assert documented <= set(allowed_settings(section))


@pytest.mark.parametrize("section", OWN_SECTIONS)
def test_the_documented_default_is_the_default(section: str) -> None:
    config = DAPOConfig()
    for name, text in _rows(section).items():
        value = getattr(config, attribute_of(f"{section}.{name}"))
        assert yaml.safe_load(text) == (list(value) if isinstance(value, tuple) else value), (
            f"{section}.{name}"
        )


def test_the_other_sections_and_presets_are_named() -> None:
    assert all(f"`{name}`" in TEXT for name in (*RLLIB_SECTIONS, *EXTRA_SECTIONS, *PRESETS))


def test_every_setting_of_which_a_kind_is_said_exists() -> None:
    config = DAPOConfig()
    for setting in {*FLAGS, *COUNTS, *NUMBERS, *CHOICES, *OPTIONAL, *ATTRIBUTES}:
        section, _, name = setting.partition(".")
        assert name in allowed_settings(section), setting
        assert hasattr(config, attribute_of(setting)), setting
