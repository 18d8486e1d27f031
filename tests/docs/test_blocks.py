"""The comments that say how a block is run, and that every block is marked as one may be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import blocks
from tests.docs.blocks import (
    ASIDE,
    LANGUAGES,
    REASONS,
    Block,
    all_blocks,
    anchor,
    earlier,
    problems,
)

SHOWN = """# A page
## Your own code
<!-- runs: {long: true} -->
```python
print(1)
```
Text between.
```python
print(2)
```
<!-- another comment -->
```
rllib-dapo presets
```
```
   1 of 3
```
## More
<!-- runs: {after: your-own-code-1, with: {"2": "3"}} -->
```python
print(2)
```
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "page.md").write_text(SHOWN)
    monkeypatch.setattr(blocks, "REPO", tmp_path)
    blocks.blocks_of.cache_clear()
    yield "page.md"
    blocks.blocks_of.cache_clear()


def test_a_block_has_the_name_of_its_heading_and_the_comment_right_before_it(page: str) -> None:
    found = [(b.id, b.language, b.line, b.note) for b in blocks.blocks_of(page)]
    assert found == [
        ("page.md:your-own-code-1", "python", 4, {"long": True}),
        ("page.md:your-own-code-2", "python", 8, {}),
        ("page.md:your-own-code-3", "sh", 12, {}),
        ("page.md:your-own-code-4", "text", 15, {}),
        ("page.md:more", "python", 20, {"after": "your-own-code-1", "with": {"2": "3"}}),
    ]


def test_a_block_comes_after_others_and_is_changed_as_its_comment_says(page: str) -> None:
    *_, last = blocks.blocks_of(page)
    assert last.code == "print(3)\n"
    assert [b.text for b in earlier(last)] == ["print(1)\n"]


def test_what_a_comment_says_wrongly_is_named() -> None:
    def marked(note: dict[str, object], language: str = "python") -> list[str]:
        block = Block(page="p.md", name="a", language=language, text="", line=1, note=note)
        return problems(block)

    assert marked({"not": REASONS[0], "long": True}) == []
    assert marked({"not": "too hard"})[0].startswith("not run because 'too hard', expected one of")
    assert marked({"afer": "b"}) == ["unknown: afer"]
    assert marked({}, language="perl")[0].startswith("language 'perl'")
    with pytest.raises(ValueError, match="no 'x' to replace"):
        _ = Block(
            page="p", name="a", language="sh", text="y", line=1, note={"with": {"x": ""}}
        ).code


def test_headings_become_anchors_by_githubs_rule() -> None:
    assert anchor("PPO -> GRPO -> DAPO") == "ppo---grpo---dapo"
    assert anchor("`env_runners/...`") == "env_runners"


@pytest.mark.parametrize("block", all_blocks(*LANGUAGES), ids=lambda block: block.id)
def test_a_block_is_marked_as_one_may_be(block: Block) -> None:
    assert problems(block) == []
    assert isinstance(earlier(block), list)
    assert block.code


def test_each_note_aside_is_of_one_block() -> None:
    found = [text for text in ASIDE for b in all_blocks(*LANGUAGES) if text in b.text]
    assert found == list(ASIDE)


def test_each_reason_for_not_running_a_block_is_used() -> None:
    assert {b.note["not"] for b in all_blocks(*LANGUAGES) if "not" in b.note} == set(REASONS)


def test_every_block_is_of_a_known_language() -> None:
    found = {b.language for page in blocks.PAGES for b in blocks.blocks_of(page)}
    assert found <= set(LANGUAGES)
