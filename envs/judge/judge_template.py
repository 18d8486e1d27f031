"""What a judge is asked: a text with fields, which untrusted texts are put into."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.json_rows import dig

OWN_FIELDS = ("problem", "response", "answer")
# Not `str.format`: its fields reach into objects, and its braces would be read in columns' names.
_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class JudgeTemplate:
    """A text with `{problem}`, `{response}`, `{answer}` and the names of columns.

    A dot leads into a nested column. Braces that are meant as such are written twice. What is put
    in is never looked at again, so no response can name a field.
    """

    text: str

    @classmethod
    def of(cls, name: str, value: Any) -> JudgeTemplate:
        """Reads the setting.

        Raises:
            ValueError: If it is not a text with the field `{response}`.
        """
        template = cls(value) if isinstance(value, str) else None
        if template is None or "response" not in template.fields:
            raise ValueError(
                f"{name}={value!r}: must be a text with the field {{response}}, and perhaps "
                "{problem}, {answer} and columns of the data"
            )
        return template

    @property
    def fields(self) -> list[str]:
        """The names of the fields."""
        return [found[1] for found in _FIELD.finditer(self.text) if found[1]]

    @property
    def columns(self) -> list[str]:
        """The names of the columns that are put in."""
        return [name for name in self.fields if name not in OWN_FIELDS]

    def fill(self, problem: Problem, response: str) -> str:
        """Returns the text for a response; a column that a problem does not have is empty."""
        own = {"problem": problem.text, "response": response, "answer": problem.answer}

        def value(found: re.Match[str]) -> str:
            if found[1] is None:
                return found[0][0]
            return own[found[1]] if found[1] in own else _written(dig(problem.columns, found[1]))

        return _FIELD.sub(value, self.text)


def _written(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
