"""The text of a run file as nested dicts, and overrides such as `training.lr=1e-5`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rllib_dapo.findings import SettingsError, one_line

Tree = dict[str, Any]

# Numbers that YAML 1.1 takes for text: it wants both a dot and a sign in scientific notation.
_SCIENTIFIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
_DATA = "# Data:"
PRESET, BASE = "preset", "base"  # the names that stand in no section


@dataclass(frozen=True, slots=True)
class YamlFile:
    """What one YAML file says.

    Attributes:
        tree: Section to settings.
        data_hint: Text of a comment line `# Data: ...`, which says where the file's data comes
            from; empty where there is none.
    """

    tree: Tree
    data_hint: str


def read_yaml(path: Path) -> YamlFile:
    """Reads a YAML file of sections.

    Raises:
        SettingsError: If the file cannot be read, is not YAML, or says something twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
        duplicates = list(_duplicates(yaml.compose(text, Loader=yaml.SafeLoader)))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {one_line(error)}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {one_line(error)}") from error

    # YAML keeps the last of several without saying so.
    for name, line in duplicates:
        raise SettingsError(
            f"{path}: line {line}: {name!r} stands here for the second time; keep one of the two"
        )
    if not isinstance(tree, dict):
        raise SettingsError(
            f"{path}: must hold sections such as 'training:' with settings under them"
        )

    hints = [line.removeprefix(_DATA) for line in text.splitlines() if line.startswith(_DATA)]
    return YamlFile(
        tree={
            str(section): {} if content is None else _with_numbers(content)
            for section, content in tree.items()
        },
        data_hint=hints[0].strip() if hints else "",
    )


def parse_override(text: str, *, example: str = "training.lr=1e-5") -> tuple[str, Any]:
    """Splits `dotted.name=value`; the value is read as YAML.

    Args:
        text: What stands after `--set`.
        example: A setting that can be given there, for the message.

    Raises:
        SettingsError: If the text is not of this form.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not (all(name.partition(".")) or name == PRESET):
        raise SettingsError(
            f"--set {text}: write it as --set section.name=value, such as --set {example}"
        )
    try:
        return name, _with_numbers(yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {text}: the value is not YAML: {one_line(error)}") from error


def put(tree: Tree, name: str, value: Any) -> Tree:
    """Returns a tree with a value at a dotted name; other branches are shared with the old tree.

    Raises:
        SettingsError: If the name leads through something that holds no names.
    """
    first, _, rest = name.partition(".")
    if not rest:
        return {**tree, first: value}

    inner = tree.get(first)
    if inner is not None and not isinstance(inner, dict):
        raise SettingsError(f"{name!r} cannot be set: {first}={inner!r} has no settings under it")
    return {**tree, first: put(inner or {}, rest, value)}


def put_all(tree: Tree, values: Tree) -> Tree:
    """Returns a tree with each value at its dotted name."""
    for name, value in values.items():
        tree = put(tree, name, value)
    return tree


def _duplicates(node: yaml.Node | None) -> Iterator[tuple[str, int]]:
    """Keys that a mapping holds twice, with the line of the second."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if key.value in seen:
            yield key.value, key.start_mark.line + 1
        seen.add(key.value)
        yield from _duplicates(value)


def _with_numbers(value: Any) -> Any:
    """The same with floats for numbers such as `1e-5`, at any depth."""
    if isinstance(value, dict):
        return {str(key): _with_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_numbers(inner) for inner in value]
    is_number = isinstance(value, str) and _SCIENTIFIC.fullmatch(value)
    return float(value) if is_number else value
