"""The description of a data set as lines of at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

from rllib_dapo.data_report.describe_data import DataDescription, PromptLengths, RenderedPrompt
from rllib_dapo.envs.row_counts import RowFinding, SourceReport

_WIDTH: Final = 80
_MOST_SOURCES: Final = 8
_MOST_TEXT: Final = 600  # characters of a message that are shown
_MOST_IDS: Final = 40


def data_lines(description: DataDescription) -> list[str]:
    """Returns the lines that `rllib-dapo data` prints.

    Args:
        description: What `describe_data` returned.
    """
    lines: list[str] = []
    for source in description.report.sources[:_MOST_SOURCES]:
        lines += _source_lines(source)
    more = len(description.report.sources) - _MOST_SOURCES
    if more > 0:
        lines.append(f"and {more} more sources (all of them with --json)")

    lines += ["", *_facts(description)]
    lines += ["", *_answers(description)]
    for prompt in description.prompts:
        lines += ["", *_prompt_lines(prompt)]
    return lines


def _source_lines(source: SourceReport) -> Iterator[str]:
    yield from _wrapped(source.source)
    for side, names in source.columns.items():
        yield from _field(side, " + ".join(names))
    if source.unused:
        yield from _field("not read", ", ".join(source.unused))
    yield from _field("rows", f"{source.rows:,} read, {source.problems:,} problems kept")
    for finding in source.findings:
        yield from _finding_lines(finding)


def _finding_lines(finding: RowFinding) -> Iterator[str]:
    example = f": {finding.example}" if finding.example else ""
    yield from _field(finding.what, f"{finding}{example}")


def _facts(description: DataDescription) -> Iterator[str]:
    counts = (f"{count:,} {kind}" for kind, count in description.kinds.items())
    yield from _field("prompts", f"{description.report.problems:,}: {', '.join(counts)}")
    for lengths in description.lengths:
        yield from _field(lengths.unit, _lengths_told(lengths, description))
    for reason, count in description.refused.items():
        yield from _field("refused", f"{count:,} prompts: {reason}")
    if description.near_copies:
        told = f"{description.near_copies:,} equal another but for case and white space"
        yield from _field("copies", told)


def _lengths_told(lengths: PromptLengths, description: DataDescription) -> str:
    told = f"median {lengths.median:,}, p95 {lengths.p95:,}, longest {lengths.longest:,}"
    if lengths.limit is None:
        return told
    share = "" if lengths.measured >= description.report.problems else f" of {lengths.measured:,}"
    over = f"{lengths.over:,}{share} over max_prompt_tokens={lengths.limit:,}"
    return f"{told} ({description.model}); {over}"


def _answers(description: DataDescription) -> Iterator[str]:
    if not description.has_answers:
        yield from _field("answers", "none: for rllib_dapo/RewardFunction-v0 only")
        return

    total = description.report.problems
    yield from _field("answers", f"{description.different_answers:,} different")
    by_count: dict[int, list[str]] = {}
    for rule, count in description.rules.items():
        by_count.setdefault(count, []).append(rule)
    for count, rules in sorted(by_count.items(), reverse=True):
        yield from _field("read by", f"{count:,} of {total:,}: {', '.join(rules)}")

    chosen = description.answer_rule
    if chosen is not None:
        left_out = total - description.rules.get(chosen, 0)
        yield from _field("answer_rule", f"{chosen}: {left_out:,} problems would be left out")
    if description.num_unread:
        yield from _field("by none", f"{description.num_unread:,} answers, such as")
        for problem_id, answer in description.unread:
            yield f"{'':14}{_cut(f'{problem_id}: {answer!r}', _WIDTH - 14)}"


def _prompt_lines(prompt: RenderedPrompt) -> Iterator[str]:
    yield from _wrapped(f"--- {prompt.problem_id}")
    for message in prompt.messages:
        for number, line in enumerate(_shown(message.content).split("\n")):
            yield from _field(message.role if number == 0 else "", line)
    if prompt.answer:
        yield from _field("answer", _cut(" ".join(prompt.answer.split()), 200))
    yield from _field("token ids", _ids(prompt.token_ids))


def _ids(token_ids: tuple[int, ...] | None) -> str:
    if token_ids is None:
        return "none: the model's template refuses this prompt"
    half = _MOST_IDS // 2
    shown = [str(one) for one in token_ids]
    if len(shown) > _MOST_IDS:
        shown = [*shown[:half], "...", *shown[-half:]]
    return f"{len(token_ids):,}: {' '.join(shown)}"


def _shown(text: str) -> str:
    # Control characters of untrusted text would steer the terminal.
    text = "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
    if len(text) <= _MOST_TEXT:
        return text
    half = _MOST_TEXT // 2
    return f"{text[:half]} [{len(text) - _MOST_TEXT:,} more characters] {text[-half:]}"


def _field(name: str, text: str) -> Iterable[str]:
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return textwrap.wrap(
        printable,
        _WIDTH,
        initial_indent=f"  {name:12}",
        subsequent_indent=" " * 14,
        break_on_hyphens=False,
    ) or [f"  {name}".rstrip()]


def _wrapped(text: str) -> Iterable[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
