"""No link of a page is dead, and every page can be reached from the README."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.blocks import PAGES, REPO, anchor, parse, text_of

OURS = (  # addresses of files of this repository
    "https://github.com/rllib-dapo/rllib-dapo/blob/main/",
    "https://github.com/rllib-dapo/rllib-dapo/tree/main/",
    "https://raw.githubusercontent.com/rllib-dapo/rllib-dapo/main/",
)


def _links(page: str) -> Iterator[str]:
    """What a page points to: links and pictures."""
    for token in parse(page):
        for child in token.children or ():
            target = child.attrGet("href") if child.type == "link_open" else child.attrGet("src")
            if target:
                yield str(target)


def _anchors(page: str) -> set[str]:
    """The headings of a page as links name them; GitHub numbers those that come again."""
    tokens = parse(page)
    names = [
        anchor(text_of(tokens[place + 1]))
        for place, token in enumerate(tokens)
        if token.type == "heading_open"
    ]
    repeated = (f"{name}-{n}" for name, count in Counter(names).items() for n in range(1, count))
    return {*names, *repeated}


def _target(page: str, link: str) -> tuple[str, str] | None:
    """File and heading that a link names, from the top of the repository; None for elsewhere."""
    for address in OURS:
        link = "/" + link.removeprefix(address) if link.startswith(address) else link
    parts = urlsplit(link)
    if parts.scheme:
        return None
    if not parts.path:
        return page, parts.fragment

    folder = REPO if parts.path.startswith("/") else (REPO / page).parent
    path = (folder / unquote(parts.path).lstrip("/")).resolve()
    return str(path.relative_to(REPO.resolve())), parts.fragment


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_no_link_is_dead(page: str) -> None:
    dead = []
    for link in _links(page):
        target = _target(page, link)
        if target is None:
            continue
        file, heading = target
        is_there = (REPO / file).exists()
        if not is_there or (file.endswith(".md") and heading and heading not in _anchors(file)):
            dead.append(link)
    assert dead == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = {"README.md"}, ["README.md"]
    while ahead:
        page = ahead.pop()
        found = {target[0] for link in _links(page) if (target := _target(page, link))}
        new = {file for file in found if Path(file).suffix == ".md"} - reached
        reached |= new
        ahead += new
    assert set(PAGES) - reached == set()


def test_the_readme_itself_names_every_page() -> None:
    named = {target[0] for link in _links("README.md") if (target := _target("README.md", link))}
    assert set(PAGES) - named - {"README.md"} == set()
