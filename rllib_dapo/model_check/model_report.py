"""What was found about a model: right as it is, right in a slower way, or refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal, Self

# `right`: computed as it should be. `slower`: right, in a way that takes longer. `note`: right, but
# worth knowing. `refused`: cannot be trained as it is.
Verdict = Literal["right", "slower", "note", "refused"]

FILE_NAME = "model_check.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFinding:
    """What one comparison has found.

    Attributes:
        check: What was compared.
        verdict: How it came out.
        detail: One line: what was measured, and where it is refused, the way out.
    """

    check: str
    verdict: Verdict
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelReport:
    """Everything that was found about a model.

    Attributes:
        model: Folder or hub name.
        architecture: Name of transformers' class.
        findings: What each comparison has found, in the order of the comparisons.
        seconds: How long the comparisons took.
    """

    model: str
    architecture: str
    findings: tuple[ModelFinding, ...]
    seconds: float

    @property
    def refusals(self) -> list[ModelFinding]:
        """What keeps the model from being trained."""
        return [finding for finding in self.findings if finding.verdict == "refused"]

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Args:
            text: The JSON.

        Raises:
            ValueError: If it is not such JSON.
        """
        try:
            tree = json.loads(text)
            findings = tuple(ModelFinding(**finding) for finding in tree.pop("findings"))
            return cls(findings=findings, **tree)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"this is no report of a model: {error}") from None

    def lines(self) -> list[str]:
        """As a table for a terminal, one finding a line."""
        width = max((len(finding.check) for finding in self.findings), default=0)
        return [
            f"{finding.check:{width}}  {finding.verdict:8} {finding.detail}"
            for finding in self.findings
        ]


def refuse(findings: Iterable[ModelFinding], *, model: str) -> None:
    """Refuses a model that cannot be trained as it is.

    Args:
        findings: What was found.
        model: Folder or hub name.

    Raises:
        ValueError: If any finding is a refusal: the first one, in one line.
    """
    for finding in findings:
        if finding.verdict == "refused":
            raise ValueError(f"language_model.name={model!r}: {finding.check}: {finding.detail}")
