"""What became of a file's rows: which were left out, which were changed, and why."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self

DATA_FILE: Final = "data.json"

NO_PROMPT: Final = "no prompt"
UNREADABLE_PROMPT: Final = "a prompt that cannot be read"
NO_ANSWER: Final = "no answer"
UNUSABLE_ANSWER: Final = "an answer that nothing can be compared with"
TOO_LONG: Final = "a longer prompt than max_prompt_characters"
DUPLICATE: Final = "the prompt of an earlier row"
CONFLICT: Final = "the prompt of an earlier row with another answer"
NO_TESTS: Final = "tests that cannot be read"
UNJUDGED: Final = "an answer that answer_rule cannot accept"
OTHER_SPLIT: Final = "a place in the other split"
LIMITED: Final = "a place beyond limit"

REPLACED: Final = "characters that are not text, replaced by U+FFFD"
CUT: Final = "a reply of the assistant at the end, cut off"
RENAMED: Final = "the id of an earlier row, made different"

What = Literal["left out", "changed"]
_SHOWN: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFinding:
    """Rows of a file of which the same is to be said.

    Attributes:
        what: Whether they were left out, or used in a changed form.
        reason: Why, as a phrase that follows "rows with".
        rows: How many there are.
        first_row: Number of the first of them, from 1; 0 if it is not known.
        example: What was found in the first of them; may be empty.
    """

    what: What
    reason: str
    rows: int
    first_row: int = 0
    example: str = ""

    def __str__(self) -> str:
        """The number, the reason and the first row."""
        first = f" (first: row {self.first_row:,})" if self.first_row else ""
        return f"{self.rows:,} with {self.reason}{first}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceReport:
    """What was read from a file or data set.

    Attributes:
        source: Its path or name.
        columns: For "prompt", "answer", "system" and "id", the columns that were taken.
        unused: Names of the columns that were not read.
        rows: Number of rows that were read.
        problems: Number of problems that came of them.
        findings: What became of the other rows, and how rows were changed.
    """

    source: str
    columns: Mapping[str, tuple[str, ...]]
    unused: tuple[str, ...]
    rows: int
    problems: int
    findings: tuple[RowFinding, ...]

    def line(self) -> str:
        """Everything in one line."""
        taken = ", ".join(
            f"{side} from {' + '.join(names)}" for side, names in self.columns.items() if names
        )
        return f"{self.source}: {self.problems:,} problems of {self.rows:,} rows ({taken})" + (
            _told(self.findings)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DataReport:
    """What was read for an environment, and what it uses.

    Attributes:
        sources: What was read from each file or data set.
        problems: Number of problems that the environment asks.
        findings: What it leaves out of those that were read.
    """

    sources: tuple[SourceReport, ...]
    problems: int
    findings: tuple[RowFinding, ...] = ()

    def used(self, problems: int, findings: Iterable[RowFinding]) -> DataReport:
        """Returns the report of an environment that uses some of the problems.

        Args:
            problems: Number of problems that it asks.
            findings: What it leaves out.
        """
        return replace(
            self,
            problems=problems,
            findings=(*self.findings, *(finding for finding in findings if finding.rows)),
        )

    def lines(self) -> list[str]:
        """What a user should know at the start of a run: a line for each source, and one for all.

        Of many sources that have nothing to tell, only the number is told.
        """
        told = [one for one in self.sources if one.findings] if len(self.sources) > 4 else []
        told = told[:4] or list(self.sources[:4])
        lines = [source.line() for source in told]
        if len(self.sources) > len(told):
            lines.append(f"and {len(self.sources) - len(told)} more files")

        if self.findings or len(self.sources) > 1:
            lines.append(f"{self.problems:,} problems are used{_told(self.findings)}")
        return lines

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> Self:
        """Reads what `dataclasses.asdict` and JSON have made of a report.

        Args:
            tree: The report as mappings and lists.
        """
        sources = tuple(
            SourceReport(
                source=one["source"],
                columns={side: tuple(names) for side, names in one["columns"].items()},
                unused=tuple(one["unused"]),
                rows=one["rows"],
                problems=one["problems"],
                findings=_findings(one["findings"]),
            )
            for one in tree["sources"]
        )
        return cls(sources=sources, problems=tree["problems"], findings=_findings(tree["findings"]))


def data_reports_from_json(text: str) -> dict[str, DataReport]:
    """Reads the reports of a run's environments, by the name of their use.

    Args:
        text: JSON with a report under each name.

    Raises:
        ValueError: If it is not such JSON.
    """
    try:
        return {name: DataReport.from_tree(tree) for name, tree in json.loads(text).items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"these are not reports on data: {error}") from None


class RowCounts:
    """Counts what became of the rows of one source."""

    def __init__(self) -> None:
        """Counts from zero."""
        self._found: dict[tuple[What, str], list[Any]] = {}  # rows, first row, example

    def leave_out(self, reason: str, row: int, example: object = "") -> None:
        """Counts a row that is left out.

        Args:
            reason: Why, one of this module's constants.
            row: Number of the row, from 1.
            example: What was found in it.
        """
        self.add("left out", reason, row, example=example)

    def change(self, reason: str, row: int) -> None:
        """Counts a row that is used in a changed form."""
        self.add("changed", reason, row)

    def add(
        self, what: What, reason: str, row: int, *, rows: int = 1, example: object = ""
    ) -> None:
        """Counts rows, of which `row` is the first."""
        known = self._found.get((what, reason))
        if known is None:
            shown = " ".join(str(example).split())[:_SHOWN]
            self._found[what, reason] = [rows, row, shown]
        else:
            known[0] += rows

    def findings(self) -> tuple[RowFinding, ...]:
        """Returns everything that was counted: what was left out first."""
        found = [
            RowFinding(what=what, reason=reason, rows=rows, first_row=first, example=example)
            for (what, reason), (rows, first, example) in self._found.items()
        ]
        return tuple(sorted(found, key=lambda finding: finding.what == "changed"))


def _told(findings: Iterable[RowFinding]) -> str:
    """Returns findings as the end of a line."""
    by_what: dict[str, list[str]] = {}
    for finding in findings:
        by_what.setdefault(finding.what, []).append(str(finding))
    return "".join(f"; {what}: {', '.join(told)}" for what, told in by_what.items())


def _findings(tree: Iterable[Mapping[str, Any]]) -> tuple[RowFinding, ...]:
    return tuple(RowFinding(**one) for one in tree)
