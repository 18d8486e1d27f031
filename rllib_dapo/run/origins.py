"""Where a setting was given, so that a finding blames the file or the option that holds it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rllib_dapo.run.layers import KEYED, Layer, Override

# A name with its value, or a name in quotes.
_ASSIGNED = re.compile(r"([A-Za-z_][\w./@-]*)=|'([A-Za-z_][\w./@-]*)'")
_WORD = re.compile(r"[A-Za-z_][\w./@-]*\w")


@dataclass(frozen=True, kw_only=True, slots=True)
class Origins:
    """The sources of a run's settings.

    Attributes:
        file: The run file, for whatever nobody gave.
        by_file: By dotted name, the file that gave it: the run file or one of its bases.
        by_hand: By dotted name, the option that gave it.
    """

    file: str
    by_file: Mapping[str, str] = field(default_factory=dict)
    by_hand: Mapping[str, str] = field(default_factory=dict)

    def blame(self, finding: str, *, variant: str | None = None) -> str:
        """A finding with its source in front.

        Args:
            finding: One line that names settings, such as `training.lr=-1 must be at least 0`.
            variant: Name of the variant that the finding is about.
        """
        hand = self._by_hand(finding)
        if hand is not None:
            return f"{hand}: {finding}"
        where = self._by_file(finding) if variant is None else f"{self.file}: variants.{variant}"
        return f"{where}: {finding}"

    def _by_hand(self, finding: str) -> str | None:
        """The option to blame: one that the finding is about, else one that it mentions."""
        for named, is_sure in ((_assigned(finding), True), (_WORD.findall(finding), False)):
            for name, option in reversed(list(self.by_hand.items())):
                if any(_is_named(name, word, is_sure=is_sure) for word in named):
                    return option
        return None

    def _by_file(self, finding: str) -> str:
        for name in _assigned(finding):
            if name in self.by_file:
                return self.by_file[name]
        return self.file


def make_origins(layers: Sequence[Layer], overrides: Sequence[Override]) -> Origins:
    """Notes where each setting was given; what stands above wins.

    Args:
        layers: What files say, from the lowest to the one that wins.
        overrides: What was given by hand.
    """
    by_file = {
        f"{section}.{name}": layer.source
        for layer in layers
        for section, content in layer.tree.items()
        if isinstance(content, dict)
        for name in content
    }
    return Origins(
        file=layers[-1].source,
        by_file=by_file,
        by_hand={name: one.source for one in overrides for name in _names(one.name, one.value)},
    )


def _names(name: str, value: Any) -> list[str]:
    """A setting's dotted name, and those of settings inside its value."""
    inner = value if isinstance(value, dict) else {}
    return [name, *(deeper for key in inner for deeper in _names(f"{name}.{key}", inner[key]))]


def _assigned(finding: str) -> list[str]:
    return [before or quoted for before, quoted in _ASSIGNED.findall(finding)]


def _is_named(name: str, word: str, *, is_sure: bool) -> bool:
    """Whether a word in a finding means a setting.

    Findings leave the section out where they have named it before. A plain word such as `name` or
    `path` is not taken for a setting then, unless it is sure that the word is a name.
    """
    section, _, key = name.partition(".")
    full = key if section in KEYED else name  # search.training.lr is about training.lr
    leaf = full.rpartition(".")[2]
    is_part = word.startswith(f"{name}.") or ("." in word and full.startswith(f"{word}."))
    return word in (name, full) or is_part or (word == leaf and (is_sure or "_" in leaf))
