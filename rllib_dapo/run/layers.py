"""What files and `--set` say, in layers: bases below, the file above them, overrides on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.findings import SettingsError
from rllib_dapo.run.preset_files import find_run_file
from rllib_dapo.run.run_file_checks import RunFileChecks, flat_metrics
from rllib_dapo.run.yaml_file import BASE, Tree, parse_override, put, read_yaml

DATA_SETS = "datasets"
# Their keys are dotted names, or names of one's own; `null` takes a key of the base away.
KEYED = ("search", "variants", "stop")
# Settings inside settings: these are merged, any other value is replaced as a whole.
_MERGED = ("environment.env_config", "evaluation.evaluation_config")
# Old names of settings and where they are now.
_MOVED = {
    "importance_sampling.start_gap_limit": "start_guard.limit",
    "importance_sampling.on_start_gap": "start_guard.action",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """What one file says.

    Attributes:
        tree: Section to settings.
        source: The file, for messages.
        data_hint: Where the file says that its data comes from.
        notes: What a user should know of the file, each in one line.
    """

    tree: Tree
    source: str
    data_hint: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Override:
    """One value that is given by hand, over all files.

    Attributes:
        name: Dotted name.
        value: The value.
        source: The option that gave it, for messages.
    """

    name: str
    value: Any
    source: str

    @property
    def section(self) -> str:
        """Section of the name."""
        return self.name.partition(".")[0]

    @property
    def tree(self) -> Tree:
        """Section to settings, with this one value."""
        section, _, key = self.name.partition(".")
        return {section: {key: self.value}} if section in KEYED else put({}, self.name, self.value)


def file_layers(path: Path) -> list[Layer]:
    """A run file as layers: first the files that it is based on, then the file itself.

    Raises:
        SettingsError: If one cannot be read, or if a file is based on itself.
    """
    layers: list[Layer] = []
    seen: set[Path] = set()
    current: Path | None = path
    while current is not None:
        if current.resolve() in seen:
            raise SettingsError(f"{path}: base: {current} is based on itself")
        seen.add(current.resolve())

        file, source = read_yaml(current), _seen_from_here(current)
        tree, changes = _with_new_names(_without(file.tree, BASE))
        notes = tuple(f"{source}: {change}" for change in changes)
        layers.insert(0, Layer(tree=tree, source=source, data_hint=file.data_hint, notes=notes))
        base = file.tree.get(BASE)
        current = None if base is None else _base_file(base, current, source)

    return layers


def read_overrides(texts: Sequence[str]) -> list[Override]:
    """What stands after each `--set`.

    Raises:
        SettingsError: If a text is not of the form `dotted.name=value`.
    """
    parsed = [(*parse_override(text), f"--set {text}") for text in texts]
    return [
        Override(name=_MOVED.get(name, name), value=value, source=source)
        for name, value, source in parsed
    ]


def data_hint(layers: Sequence[Layer]) -> str:
    """Where the data comes from, of the topmost file that says so of the environment in use."""
    for layer in reversed(layers):
        if layer.data_hint or "env" in (layer.tree.get("environment") or {}):
            return layer.data_hint
    return ""


def merge_layers(layers: Sequence[Layer], config_class: type[DAPOConfig] = DAPOConfig) -> Tree:
    """Merges what files say, and checks names and kinds of values.

    Args:
        layers: From the lowest to the one that wins.
        config_class: Configuration whose methods are the sections.

    Raises:
        SettingsError: For the first finding.
    """
    tree: Tree = {}
    for layer in layers:
        check_tree(layer.tree, layer.source, config_class)
        tree = merge(tree, layer.tree, layer.source)
    return tree


def put_overrides(
    tree: Tree, overrides: Sequence[Override], config_class: type[DAPOConfig] = DAPOConfig
) -> Tree:
    """The tree with what is given by hand, which then is not searched for.

    Raises:
        SettingsError: For the first finding on names and kinds of values.
    """
    for override in overrides:
        check_tree(override.tree, override.source, config_class)
        if override.section in KEYED:
            tree = merge(tree, override.tree, override.source)
            continue
        tree = put(tree, override.name, override.value)
        if "search" in tree:
            tree["search"] = _without(tree["search"], override.name)
    return tree


def merge(below: Tree, above: Tree, source: str) -> Tree:
    """Sections of one file on top of those of another, key by key; what stands above wins.

    Args:
        below: Section to settings, of the file that is built upon.
        above: Section to settings, of the file that builds on it.
        source: The upper file, for messages.

    Raises:
        SettingsError: If a `null` takes away what is not there.
    """
    merged = _without_other_environment(below, above)
    for section, content in above.items():
        if not isinstance(content, dict):  # the one word of `preset`
            merged[section] = content
            continue
        content = flat_metrics(content) if section == "stop" else content
        merged[section] = _merge_section(section, merged.get(section, {}), content, source)
    return merged


def check_tree(tree: Tree, source: str, config_class: type[DAPOConfig] = DAPOConfig) -> None:
    """Checks names and kinds, except for keys that are `null` to take a base's away.

    Args:
        tree: Section to settings.
        source: Where they stand, for messages.
        config_class: Configuration whose methods are the sections.

    Raises:
        SettingsError: For the first finding.
    """
    checked = _without(tree, DATA_SETS)
    for section in KEYED:
        if isinstance(checked.get(section), dict):
            keys = checked[section].items()
            checked[section] = {name: value for name, value in keys if value is not None}
    RunFileChecks(source, config_class).check(checked)


def with_new_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name, those with an old name under their new one."""
    return {_MOVED.get(name, name): value for name, value in settings.items()}


def _merge_section(section: str, below: Tree, above: Tree, source: str) -> Tree:
    merged = dict(below)
    for name, value in above.items():
        if section in KEYED and value is None:
            if name not in below:
                raise SettingsError(
                    f"{source}: {section}.{name}=null takes away what a base has, and none has it"
                )
            del merged[name]
        elif f"{section}.{name}" in _MERGED:
            merged[name] = _merge_mappings(below.get(name), value)
        else:
            merged[name] = value
    return merged


def _merge_mappings(below: Any, above: Any) -> Any:
    """Settings inside settings, merged at every depth; anything else is replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {name: _merge_mappings(below.get(name), value) for name, value in above.items()}


def _without_other_environment(below: Tree, above: Tree) -> Tree:
    """A copy without the settings of an environment that another one replaces."""
    kept = dict(below)
    old, new = (tree.get("environment", {}).get("env") for tree in (below, above))
    if old is None or new is None or old == new:
        return kept

    kept["environment"] = _without(below["environment"], "env_config")
    overrides = below.get("evaluation", {}).get("evaluation_config")
    if isinstance(overrides, dict):
        overrides = _without(overrides, "env", "env_config")
        kept["evaluation"] = {**below["evaluation"], "evaluation_config": overrides}
    return kept


def _without(tree: Tree, *names: str) -> Tree:
    return {name: value for name, value in tree.items() if name not in names}


def _with_new_names(tree: Tree) -> tuple[Tree, list[str]]:
    """The tree with new names for old ones, and what has changed."""
    changes = []
    for old, new in _MOVED.items():
        section, _, key = old.partition(".")
        if isinstance(tree.get(section), dict) and key in tree[section]:
            value = tree[section][key]
            tree = put({**tree, section: _without(tree[section], key)}, new, value)
            changes.append(f"{old} is now called {new}")
    return tree, changes


def _base_file(base: Any, file: Path, source: str) -> Path:
    if not isinstance(base, str) or not base:
        raise SettingsError(f"{source}: base={base!r} must be a run file, or the name of a preset")
    try:
        return find_run_file(base, beside=file.parent)
    except SettingsError as error:
        raise SettingsError(f"{source}: base: {error}") from None


def _seen_from_here(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
