"""The code blocks of the README and of docs/, and how each of them is run.

A block runs as it stands. What it needs beside that is in a comment right before it, which rendered
pages do not show:

    <!-- runs: {after: your-own, with: {num_samples=16: num_samples=1}} -->

The comment is one mapping in YAML, on one line or several:

- `after`: names of blocks of the same page, or of a section for all of its blocks. Python goes on
  with their names, a run file is put on top of theirs.
- `with`: texts that are replaced before the block runs, each of which must be there.
- `under`: the dotted name that a fragment of a run file belongs under.
- `lines`: `apart`, if each line is a run file.
- `kind`: what a block of YAML is, if not a run file: `data sets`, `machines` or `manifest`.
- `small`: texts that are replaced where the block is run for real, with a small model.
- `set`: settings for each command that trains, beside those of `shell.SMALL` or in their place.
- `long`: true, if Python takes more than a few seconds.
- `not`: why a block is not run, one of `REASONS`. It is still read: as Python, YAML, or as commands
  whose arguments are checked.

A first line such as `# my_module.py` or `# my_run.yaml` names a file, which the other blocks of the
page then find in their folder. Several blocks of one name make up one file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt

REPO = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in REPO.glob("docs/*.md")))

LANGUAGES = ("python", "yaml", "sh", "console", "json", "text", "dockerfile")
PROGRAMS = ("rllib-dapo", "make", "python", "pip", "ray", "cp")  # what commands begin with
REASONS = (
    "a fragment of a file",
    "needs a GPU",
    "needs another machine",
    "another test runs it",
    "takes many minutes",
)
_KEYS = ("after", "with", "under", "lines", "kind", "small", "set", "long", "not")
_NOTE = re.compile(r"<!-- runs:\s+(.+?)\s*-->\s*\Z", re.DOTALL)
# Of pages that say nothing about running: for the block that holds a text, its comment.
ASIDE: dict[str, dict[str, Any]] = {
    "rllib-dapo train epsilon_grid_lora ": {"not": "another test runs it"},
    "with rllib_dapo.shared_engine(config, clients=9):": {"not": "a fragment of a file"},
    "space = rllib_dapo.JointSpace(": {
        "long": True,
        "with": {
            "DAPOConfig()  # ... as always, and then": (
                "DAPOConfig()"
                '.environment("rllib_dapo/Arithmetic-v0")'
                '.language_model("MODEL", dtype="float32", num_threads=1)'
                '.rollout(engine="transformers", max_prompt_tokens=16, max_response_tokens=4)'
                ".training(prompts_per_step=4, group_size=4, minibatch_size=8)"
                ".dynamic_sampling(enabled=False)"
            ),
            "num_samples=16": "num_samples=2",
            "max_t=200, grace_period=20": "max_t=2, grace_period=1",
            '"training_iteration": 200': '"training_iteration": 2',
        },
    },
}
_FILE_NAME = re.compile(r"# ([a-z_]+\.(?:py|yaml))\b")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One code block.

    Attributes:
        page: Path of the page from the top of the repository.
        name: The heading that it stands under, as in links, with a number if there are several.
        language: One of `LANGUAGES`.
        text: The code.
        line: Line of the page on which it begins.
        note: What the comment before it says.
    """

    page: str
    name: str
    language: str
    text: str
    line: int
    note: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Page and name, for tests."""
        return f"{Path(self.page).name}:{self.name}"

    @property
    def code(self) -> str:
        """The code as it is run.

        Raises:
            ValueError: If a text that should be replaced is not there.
        """
        return self._replaced(self.text, "with")

    @property
    def small_code(self) -> str:
        """The code as it is run where that takes a model.

        Raises:
            ValueError: If a text that should be replaced is not there.
        """
        return self._replaced(self.code, "small")

    def _replaced(self, code: str, key: str) -> str:
        for old, new in self.note.get(key, {}).items():
            if old not in code:
                raise ValueError(f"{self.page}:{self.line}: no {old!r} to replace")
            code = code.replace(old, str(new))
        return code

    @property
    def file_name(self) -> str | None:
        """The file that the block is, if its first line says so."""
        match = _FILE_NAME.match(self.text)
        return match and match[1]


def anchor(heading: str) -> str:
    """A heading as links name it, by GitHub's rule."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def parse(page: str) -> list[Any]:
    """The tokens of a page."""
    return MarkdownIt("commonmark").enable("table").parse((REPO / page).read_text())


def text_of(token: Any) -> str:
    """What a reader sees of an inline token: the text of its links, and of code."""
    return "".join(c.content for c in token.children or () if c.type in ("text", "code_inline"))


@cache
def blocks_of(page: str) -> tuple[Block, ...]:
    """The code blocks of a page, in their order."""
    found = list(_blocks(page))
    counts: dict[str, int] = {}
    for block in found:
        counts[block.name] = counts.get(block.name, 0) + 1

    seen: dict[str, int] = {}
    named = []
    for block in found:
        seen[block.name] = seen.get(block.name, 0) + 1
        number = f"-{seen[block.name]}" if counts[block.name] > 1 else ""
        note = block.note or next((n for text, n in ASIDE.items() if text in block.text), {})
        named.append(replace(block, name=block.name + number, note=note))
    return tuple(named)


def _blocks(page: str) -> Iterator[Block]:
    heading, comment = "top", ""
    tokens = parse(page)
    for place, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag != "h1":
            heading = anchor(text_of(tokens[place + 1]))
        if token.type in ("fence", "code_block"):
            note = _NOTE.search(comment)
            yield Block(
                page=page,
                name=heading,
                language=token.info or _language(token.content),
                text=token.content,
                line=token.map[0] + 1,
                note=yaml.safe_load(note[1]) if note else {},
            )
        comment = token.content if token.type == "html_block" else ""


def _language(text: str) -> str:
    """Of a block that does not say it: commands begin with a program, all else is text."""
    first = Path(text.split(maxsplit=1)[0]).name
    return "console" if first == "$" else "sh" if first in PROGRAMS else "text"


def all_blocks(*languages: str) -> list[Block]:
    """The blocks of all pages in these languages."""
    return [b for page in PAGES for b in blocks_of(page) if b.language in languages]


def earlier(block: Block) -> list[Block]:
    """The blocks that a block comes after, as its comment says.

    Raises:
        ValueError: If there is none of a name.
    """
    after = block.note.get("after", [])
    found: list[Block] = []
    for name in [after] if isinstance(after, str) else after:
        matches = [b for b in blocks_of(block.page) if re.fullmatch(rf"{name}(-\d+)?", b.name)]
        if not matches:
            raise ValueError(f"{block.page}:{block.line}: no block {name!r} to come after")
        found += [b for b in matches if b.language == block.language and b != block]
    return found


def files_of(page: str, *, small: bool = False) -> dict[str, str]:
    """The files that the blocks of a page are, by their names.

    Args:
        page: Path of the page.
        small: Whether they are for a run with a small model.
    """
    files: dict[str, str] = {}
    for block in blocks_of(page):
        if block.file_name and "not" not in block.note:
            code = block.small_code if small else block.code
            files[block.file_name] = files.get(block.file_name, "") + code + "\n"
    return files


def problems(block: Block) -> list[str]:
    """What is wrong with how a block is marked."""
    found = []
    if block.language not in LANGUAGES:
        found.append(f"language {block.language!r}, expected one of {', '.join(LANGUAGES)}")
    if unknown := set(block.note) - set(_KEYS):
        found.append(f"unknown: {', '.join(sorted(unknown))}")
    reason = block.note.get("not")
    if reason is not None and reason not in REASONS:
        found.append(f"not run because {reason!r}, expected one of {', '.join(REASONS)}")
    return found
