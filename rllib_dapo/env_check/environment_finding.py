"""What a check finds about an environment, and how much that matters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_SHOWN_CHARACTERS = 80


class Level(StrEnum):
    """How much a finding matters."""

    BREAKS = "breaks training"
    LOOK = "worth a look"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something about an environment that its author should know.

    Attributes:
        fault: What was found.
        fix: What to do about it.
        level: Whether training cannot go well like this, or may well be meant so.
        cause: What tells this finding from others: a cause is reported once, however often it is
            met.
    """

    fault: str
    fix: str
    level: Level = Level.BREAKS
    cause: str = ""

    @property
    def breaks_training(self) -> bool:
        """Whether training cannot go well like this."""
        return self.level is Level.BREAKS

    def __str__(self) -> str:
        return f"{self.level}: {self.fault}\n    -> {self.fix}"


class Fault(Exception):
    """Carries a finding out of a check that cannot go on with it."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.fault)
        self.finding = finding


def shortened(value: object, most: int = _SHOWN_CHARACTERS) -> str:
    """A value as Python writes it, shortened if it is long. A `repr` that raises is no obstacle."""
    # The start of a long text is enough, and writing all of it may take long.
    if isinstance(value, str | bytes) and len(value) > most:
        return f"{value[: most - 3]!r}..."
    try:
        text = " ".join(repr(value).split())
    except Exception as error:
        text = f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def shown_apart(first: str, second: str) -> tuple[str, str]:
    """Two texts as Python writes them, long ones from shortly before where they differ."""
    if max(len(first), len(second)) <= _SHOWN_CHARACTERS:
        return repr(first), repr(second)

    pairs = enumerate(zip(first, second, strict=False))
    differing = (index for index, (one, other) in pairs if one != other)
    start = max(0, next(differing, min(len(first), len(second))) - 20)
    shown = [
        f"{'...' if start else ''}{shortened(text[start : start + _SHOWN_CHARACTERS])}"
        for text in (first, second)
    ]
    return shown[0], shown[1]
