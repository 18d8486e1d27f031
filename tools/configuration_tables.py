"""Writes the tables of docs/configuration.md from the settings' defaults and docstrings.

`make docs` runs this. A table stands between the lines `<!-- settings: SECTION -->` and
`<!-- end -->`, the one of RLlib's settings without effect after `<!-- rllib -->`; what stands
elsewhere on the page is written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from docstring_parser import parse

from rllib_dapo import DAPOConfig
from rllib_dapo.config.rllib_settings import UNUSED
from rllib_dapo.config.setting import Setting, own_sections, own_settings
from rllib_dapo.config.value_kinds import choices

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
_TABLE = re.compile(r"<!-- settings: (\w+) -->\n.*?<!-- end -->", re.DOTALL)
_RLLIB_TABLE = re.compile(r"<!-- rllib -->\n.*?<!-- end -->", re.DOTALL)
_SOURCE = re.compile(r"\s*Source: (.+)\.$")


def table(section: str, config_class: type[DAPOConfig] = DAPOConfig) -> str:
    """The table of one section: each setting with its default, meaning and source.

    Raises:
        ValueError: If a setting has no docstring.
    """
    defaults, meanings = config_class(), _meanings(section, config_class)
    rows = ["| setting | default | meaning | source |", "| --- | --- | --- | --- |"]
    for setting in own_settings(config_class).values():
        if setting.section != section:
            continue
        if setting.name not in meanings:
            raise ValueError(f"{setting.dotted} has no line in its method's docstring")
        default = _as_yaml(getattr(defaults, setting.attribute))
        meaning, source = _without_source(meanings[setting.name])
        meaning += _choices(setting, meaning)
        rows.append(f"| `{setting.name}` | `{default}` | {meaning} | {source} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """The page with its tables as they should be.

    Raises:
        ValueError: If a section has no place on the page.
    """
    missing = set(own_sections(DAPOConfig)) - set(_TABLE.findall(text))
    if missing:
        raise ValueError(f"{PAGE.name}: no table for {', '.join(sorted(missing))}")
    text = _RLLIB_TABLE.sub(lambda _: f"<!-- rllib -->\n{rllib_table()}\n<!-- end -->", text)
    return _TABLE.sub(
        lambda m: f"<!-- settings: {m.group(1)} -->\n{table(m.group(1))}\n<!-- end -->", text
    )


def rllib_table() -> str:
    """The table of RLlib's settings without effect, those with the same reason in one row."""
    grouped: dict[tuple[str, bool, str], list[str]] = {}
    for unused in UNUSED.values():
        section, _, name = unused.setting.rpartition(".")
        key = (section, unused.is_refused, unused.instead)
        grouped.setdefault(key, []).append(f"`{name}`")

    rows = ["| section | setting | | why, and what instead |", "| --- | --- | --- | --- |"]
    for (section, is_refused, instead), names in grouped.items():
        done = "refused" if is_refused else "warned of"
        where = f"`{section}`" if section else "attribute"
        rows.append(f"| {where} | {', '.join(names)} | {done} | {instead} |")
    return "\n".join(rows)


def _meanings(section: str, config_class: type[DAPOConfig]) -> Mapping[str, str]:
    """What the docstrings of a section's methods say of each argument, subclasses' last."""
    found: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        method = vars(base).get(section)
        for param in parse(getattr(method, "__doc__", None) or "").params:
            found[param.arg_name] = " ".join((param.description or "").split())
    return found


def _without_source(meaning: str) -> tuple[str, str]:
    found = _SOURCE.search(meaning)
    return (meaning[: found.start()], found.group(1)) if found else (meaning, "")


def _choices(setting: Setting, meaning: str) -> str:
    """The words that a setting may be, where its meaning does not name them."""
    words = [f"`{word}`" for word in choices(setting.annotation)]
    is_told = all(word in meaning for word in words)
    return "" if is_told else f" One of {', '.join(words)}."


def _as_yaml(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=1000)
    return text.removesuffix("...\n").strip()


if __name__ == "__main__":
    before = PAGE.read_text(encoding="utf-8")
    after = page(before)
    PAGE.write_text(after, encoding="utf-8")
    sys.stdout.write(f"{PAGE.name}: {'written' if after != before else 'up to date'}\n")
