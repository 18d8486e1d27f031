"""docs/configuration.md and the settings are the same."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import yaml

from rllib_dapo import DAPOConfig
from rllib_dapo.config.objective_presets import PRESETS
from rllib_dapo.config.setting import (
    RLLIB_SECTIONS,
    attribute_of,
    own_sections,
    own_settings,
    section_kinds,
)
from rllib_dapo.run.run_file_checks import EXTRA_SECTIONS

REPO = Path(__file__).parents[2]
TEXT = (REPO / "docs" / "configuration.md").read_text()
TABLES = runpy.run_path(str(REPO / "tools" / "configuration_tables.py"))
ROW = re.compile(r"^\| `(\w+)` \| `(.+?)` \|", re.MULTILINE)
SECTIONS = own_sections(DAPOConfig)


def _rows(section: str) -> dict[str, str]:
    """The settings of a section's table, and their defaults as text."""
    (table,) = re.findall(rf"<!-- settings: {section} -->\n(.*?)<!-- end -->", TEXT, re.DOTALL)
    return dict(ROW.findall(table))


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_documented_and_no_other(section: str) -> None:
    own = [s.name for s in own_settings(DAPOConfig).values() if s.section == section]
    assert list(_rows(section)) == own


@pytest.mark.parametrize("section", SECTIONS)
def test_the_documented_default_is_the_default(section: str) -> None:
    config = DAPOConfig()
    for name, text in _rows(section).items():
        value = getattr(config, attribute_of(f"{section}.{name}", DAPOConfig))
        plain = list(value) if isinstance(value, tuple) else value
        # YAML 1.1 wants a dot in scientific notation; run files are read without that want.
        read = yaml.safe_load(text)
        assert (float(read) if isinstance(plain, float) else read) == plain, f"{section}.{name}"


def test_the_tables_are_those_that_make_docs_writes() -> None:
    assert TABLES["page"](TEXT) == TEXT, "run `make docs`"


def test_a_section_without_a_place_on_the_page_is_named() -> None:
    with pytest.raises(ValueError, match="no table for kl"):
        TABLES["page"](TEXT.replace("<!-- settings: kl -->", ""))


def test_the_other_sections_and_presets_are_named() -> None:
    assert all(f"`{name}`" in TEXT for name in (*RLLIB_SECTIONS, *EXTRA_SECTIONS, *PRESETS))


def test_every_setting_of_which_a_kind_is_said_exists() -> None:
    config = DAPOConfig()
    for setting in own_settings(DAPOConfig).values():
        assert setting.name in section_kinds(DAPOConfig, setting.section)
        assert hasattr(config, setting.attribute), setting.dotted
