"""What README and docs say of benchmarks is what the benchmarks have left in files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import figures
import pytest
import results_page

PAGES = figures.pages()
_BLOCK = re.compile(r"<!-- (?:table|weights): .*?-->\n.*?<!-- end -->", re.DOTALL)
_DECIMAL = re.compile(r"(?<![\w.,])\d+\.\d+(?![\w.])")


def test_the_page_of_results_is_as_it_is_written_anew() -> None:
    assert results_page.PAGE.read_text() == results_page.page()


def test_every_result_is_on_the_page() -> None:
    page = results_page.PAGE.read_text()
    for path in results_page.RESULTS.glob("*.json"):
        if path.stem not in (results_page.STUDY, results_page.CLAIMS):
            assert f"### {path.stem.replace('_', ' ')}\n" in page
    for name in re.findall(r"\(images/(\S+)\)", page):
        assert (results_page.IMAGES / name).is_file()


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_figures_between_marks_are_the_benchmarks(page: Path) -> None:
    assert figures.filled(page.read_text()) == page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_figures_of_a_benchmark_are_not_written_by_hand(page: Path) -> None:
    """In a paragraph that names a benchmark, a figure of its results stands between marks."""
    if page == results_page.PAGE:
        return
    by_hand = figures.without_figures(_BLOCK.sub("", page.read_text()))
    for line in by_hand.splitlines():
        for name in set(re.findall(r"benchmarks/(?:results/)?(\w+)\.(?:py|json)", line)):
            path = figures.RESULTS / f"{name}.json"
            if not path.is_file():
                continue
            known = list(numbers(json.loads(path.read_text())))
            for text in _DECIMAL.findall(line):
                places = len(text.partition(".")[2])
                assert not any(f"{value:.{places}f}" == text for value in known), (
                    f"{page.name}: {text} of results/{name}.json; see tools/figures.py"
                )


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers(inner)
    elif isinstance(value, float):
        yield value


def test_a_figure_is_written_as_its_mark_says(monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"ratio": 0.25, "rows": [{"mean": 1234.5}], "also": {"a share, in words": 0.289}}
    monkeypatch.setattr(figures, "_record", lambda name: record)
    assert figures.written("x.ratio", ".2f") == "0.25"
    assert figures.written("1/x.ratio", ".1f") == "4.0"
    assert figures.written("x.rows.0.mean", ",.0f") == "1,234"
    assert figures.written("x.also.a share, in words", ".1%") == "28.9 %"
    with pytest.raises(KeyError, match="there is no 'other'"):
        figures.written("x.other", ".2f")


def test_every_benchmark_is_run_by_one_of_the_make_targets() -> None:
    """All but the one that needs a GPU, which `make test-gpu` runs."""
    makefile = (figures.REPO / "Makefile").read_text().replace("\\\n", " ")
    listed = [
        name
        for variable in ("RATIOS", "STUDIES")
        for name in re.findall(rf"^{variable} = (.*)$", makefile, re.MULTILINE)[0].split()
    ]
    scripts = {
        path.stem
        for path in (figures.REPO / "benchmarks").glob("*.py")
        if "\nif __name__" in path.read_text()
    }
    assert len(listed) == len(set(listed))
    assert set(listed) | {"gpu"} == scripts
