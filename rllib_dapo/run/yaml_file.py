"""The text of a run file as nested dicts, and overrides put into them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from rllib_dapo.findings import SettingsError, one_line

Tree = dict[str, Any]

# Numbers that YAML 1.1 takes for text: scientific notation wants both a dot and a sign there.
_SCIENTIFIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
_DATA = "# Data:"
PRESET = "preset"  # the one name that stands in no section


def read_run_file(path: Path) -> tuple[Tree, str]:
    """Reads a YAML file of sections.

    Args:
        path: The file.

    Returns:
        Section to settings, and what a comment line `# Data: ...` says of where the file's data is
        to be had.

    Raises:
        SettingsError: If the file cannot be read, is no YAML, or says something twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
        duplicates = list(_duplicates(yaml.compose(text, Loader=yaml.SafeLoader)))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {one_line(error)}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {one_line(error)}") from error
    # YAML keeps the last of several without a word.
    for name, line in duplicates:
        raise SettingsError(
            f"{path}: line {line}: {name!r} stands here for the second time; keep one of the two"
        )
    if not isinstance(tree, dict):
        raise SettingsError(
            f"{path}: must hold sections such as 'training:' with settings under them"
        )
    sections = {
        str(section): {} if content is None else _numbers(content)
        for section, content in tree.items()
    }
    hints = (
        line.removeprefix(_DATA).strip() for line in text.splitlines() if line.startswith(_DATA)
    )
    return sections, next(hints, "")


def parse_override(text: str) -> tuple[str, Any]:
    """Takes `dotted.name=value` apart; the value is read as YAML.

    Raises:
        SettingsError: If it is no such text.
    """
    name, equals, value = text.partition("=")
    if not equals or not (all(name.strip().partition(".")) or name.strip() == PRESET):
        raise SettingsError(
            f"--set {text}: write it as --set section.name=value, such as --set training.lr=1e-5"
        )
    try:
        return name.strip(), _numbers(yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {text}: the value is not YAML: {one_line(error)}") from error


def put(tree: Tree, name: str, value: Any) -> Tree:
    """Returns a tree with a value at a dotted name; what lies on other branches is shared with the old one.

    Raises:
        SettingsError: If the name leads through something that has no names in it.
    """
    first, _, rest = name.partition(".")
    if not rest:
        return {**tree, first: value}
    inner = tree.get(first)
    if inner is not None and not isinstance(inner, dict):
        raise SettingsError(f"{name!r} cannot be set: {first}={inner!r} has no settings under it")
    return {**tree, first: put(inner or {}, rest, value)}


def _duplicates(node: yaml.Node | None) -> Iterator[tuple[str, int]]:
    """Keys that a mapping holds twice, with the line of the second."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.value, key.start_mark.line + 1
            seen.add(key.value)
            yield from _duplicates(value)


def _numbers(value: Any) -> Any:
    """Makes floats of numbers such as `1e-5`, at any depth."""
    if isinstance(value, dict):
        return {str(key): _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    return float(value) if isinstance(value, str) and _SCIENTIFIC.fullmatch(value) else value
