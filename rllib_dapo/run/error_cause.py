"""The line of an error that says what is wrong, whichever library raised it.

A traceback's last line is often not it. Pydantic's is a link to its pages, vLLM's says "See root
cause above", Ray wraps an error of a worker in one of its own, an error may be raised from another,
and a message may have several lines.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LONGEST_CAUSE = 500

_COLORS = re.compile(r"\x1b\[[0-9;]*m")
# What a library's logger and Ray write in front of each line, such as
# "(EngineCore_DP0 pid=7) ERROR 11-26 07:00:00 [core.py:700] ".
_LOG_PREFIX = re.compile(
    r"^(\([\w ]+ ?pid=\d+[^)]*\) ?)?"
    r"((ERROR|CRITICAL|WARNING) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]+\] ?)?"
)
_GROUP_MARGIN = re.compile(r"^ *[|+] ?")  # in front of the lines of an exception group
_HEAD = re.compile(
    r"^(?P<kind>(?:(?:[A-Za-z_]\w*|<locals>)\.)*[A-Z]\w*(?:\([\w.]+\))?)(?:: (?P<text>.*)|:)?$",
    re.ASCII,
)
_BY_NAME = re.compile(r"(Error|Exception|Interrupt|Exit|Warning|Group|Failure|Iteration)$")
_FRAME = re.compile(r'^  +File ".*", line \d+')
_TRACEBACK = "Traceback (most recent call last):"
_CHAINED = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
# Wrappers around the error of another process.
_WRAPPERS = ("RayTaskError", "TrainingFailedError", "TuneError", "RayError")
# Errors that only say that there is another one, or that something is gone.
_POINTS_ELSEWHERE = re.compile(
    r"see (the )?(root cause|stack ?trace|error|logs?|traceback)s? (above|below|for)"
    r"|worker died|actor died|actor is dead|worker crashed|initialization failed"
    r"|the actor .* is unavailable|engine core .* died|enginedead",
    re.IGNORECASE,
)
_NOISE = re.compile(
    r"^([-+]+( \d+ -+)?$|For further information visit |For more information|https?://\S+$|\[W\d|\^+$|~*\^+~*$)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """One error of a chain.

    Attributes:
        kind: Name of its class, without the module.
        text: Its whole message in one line; empty if it has none.
        place: Where it was raised, with the code; empty where that is not known.
        is_chained: Whether it was raised from the error before it, or while that was handled.
    """

    kind: str
    text: str
    place: str = ""
    is_chained: bool = False

    @property
    def points_elsewhere(self) -> bool:
        """Whether it says only that something else went wrong."""
        return bool(_POINTS_ELSEWHERE.search(f"{self.kind}: {self.text}"))

    def __str__(self) -> str:
        line = f"{self.kind}: {self.text or self.place}".removesuffix(": ")
        return line if len(line) <= LONGEST_CAUSE else f"{line[: LONGEST_CAUSE - 4]} ..."


def cause_line(error: BaseException | str) -> str:
    """What is wrong, in one line.

    Args:
        error: An error, or the text of a traceback.

    Returns:
        The last error of the chain and, where it was raised from another, what caused it, unless
        one of the two says all of it. Without any error in a text its last line.
    """
    text = error if isinstance(error, str) else _traceback(error)
    causes = find_causes(text)
    if not causes:
        lines = [line.strip() for line in _plain_lines(text) if line.strip()]
        return lines[-1][:LONGEST_CAUSE] if lines else type(error).__name__

    groups = [place for place, cause in enumerate(causes) if cause.kind.endswith("Group")]
    if groups and groups[-1] + 1 < len(causes):
        # Ray prints the members of a group twice.
        first, *others = dict.fromkeys(map(str, causes[groups[-1] + 1 :]))
        return f"{causes[groups[-1]]}: {first}" + (f" (and {len(others)} more)" if others else "")

    told = [cause for cause in causes if not cause.points_elsewhere]
    last = told[-1] if told else causes[-1]
    root = _root(causes, last)
    if root is None or root.text in last.text or not last.text:
        return str(last if root is None or last.text else root)
    return f"{last} (caused by {root})"


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def points_elsewhere(line: str) -> bool:
    """Whether a line says only that something went wrong in another process, or above."""
    return bool(_POINTS_ELSEWHERE.search(line))


def find_causes(text: str) -> list[Cause]:
    """All errors that a text tells of, in its order: causes stand before what they caused.

    Wrappers are left out: the errors that they wrap follow them.
    """
    lines, causes = _plain_lines(text), []
    place, in_traceback, is_chained, frame = 0, False, False, ""
    while place < len(lines):
        line = lines[place]
        if _FRAME.match(line):
            code = lines[place + 1].strip() if place + 1 < len(lines) else ""
            frame = f"{line.strip()}: {code}"
        if line.strip() in _CHAINED:
            is_chained = True
        if line.strip() == _TRACEBACK or _FRAME.match(line) or line.startswith("ray::"):
            in_traceback = True

        head = _head(line, in_traceback=in_traceback)
        if head is None:
            place += 1
            continue
        kind, first = head
        rest = list(_message_lines(lines[place + 1 :]))
        place += 1 + len(rest)
        in_traceback = False
        if kind.partition("(")[0] not in _WRAPPERS:
            message = " ".join(_without_noise([first, *rest]))
            causes.append(Cause(kind=kind, text=message, place=frame, is_chained=is_chained))
            is_chained, frame = False, ""
    return causes


def _head(line: str, *, in_traceback: bool) -> tuple[str, str] | None:
    """The class and the first line of the message, where a line begins an error."""
    match = _HEAD.match(line)
    if match is None:
        return None
    kind = match["kind"].rpartition("(")[0] or match["kind"]
    name = kind.rpartition(".")[2]
    # Behind a traceback stands an error, whatever its class is called.
    if not in_traceback and not _BY_NAME.search(name):
        return None
    return name, match["text"] or ""


def _message_lines(lines: Sequence[str]) -> Iterator[str]:
    """The further lines of a message: up to the next traceback, chain or error."""
    for line in lines:
        text = line.strip()
        is_end = text in (_TRACEBACK, *_CHAINED) or _FRAME.match(line)
        if is_end or text.startswith(("ray::", "+----", "+-+--")):
            return
        if (head := _head(line, in_traceback=False)) and _BY_NAME.search(head[0]):
            return
        yield line


def _without_noise(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        text = line.strip()
        if text and not _NOISE.match(text):
            yield re.sub(r" \[type=\w+, input_value=.*\]$", "", text)


def _root(causes: Sequence[Cause], last: Cause) -> Cause | None:
    """The first error of the chain that ends with `last`, if it is another one."""
    place = next(i for i, cause in enumerate(causes) if cause is last)
    while place and causes[place].is_chained:
        place -= 1
    root = causes[place]
    return None if root is last or root.points_elsewhere or not root.text else root


def _plain_lines(text: str) -> list[str]:
    """Lines without colors, log prefixes and the margins of exception groups."""
    lines = []
    for line in _COLORS.sub("", text).splitlines():
        line = _LOG_PREFIX.sub("", line, count=1)
        while re.match(r"^ *(\||\+-)", line):  # groups stand in groups
            line = _GROUP_MARGIN.sub("", line)
        lines.append(line)
    return lines
