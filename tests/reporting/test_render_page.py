"""What a page's source must hold whatever a run says; how it behaves is tried in a browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.synthetic_run import synthetic_run
from rllib_dapo.reporting.render_page import (
    SCRIPTS,
    json_in_html,
    link_from,
    no_link,
    render_page,
)
from rllib_dapo.reporting.report_content import report_content
from rllib_dapo.reporting.stored_run import read_run

HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>&amp;\u2028"


@pytest.fixture(scope="module")
def data(sweep_folder: Path) -> dict[str, Any]:
    return report_content(read_run(str(sweep_folder)), link=link_from(sweep_folder / "report.html"))


def _unpacked(html: str, name: str) -> str:
    found = re.search(rf'<script type="text/plain" id="{name}">(.*?)</script>', html)
    return gzip.decompress(base64.b64decode(found[1])).decode()


def _scripts(html: str) -> list[str]:
    """The page's own, and the library, which that one starts."""
    own = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    return [*own, _unpacked(html, "plotly")]


def _embedded(html: str) -> Any:
    """The content as it was, put together from the page's parts."""
    data = json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', html)[1]
    )
    parts = (json.loads(_unpacked(html, name)) for name in ("figures", "prompts"))
    for trial, figures, prompts in zip(data["trials"], *parts, strict=True):
        usual = trial["x"]["iteration"]
        trial["figures"] = {name: {"x": usual, **curve} for name, curve in figures.items()}
        trial["prompts"] = prompts
    return data


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_no_text_in_the_data_can_become_markup(value: Any) -> None:
    embedded = json_in_html(value)
    assert not set("<>&\u2028\u2029") & set(embedded)
    assert json.loads(embedded) == value


def test_a_hostile_run_stays_data(data: dict[str, Any]) -> None:
    hostile = json.loads(json.dumps(data))
    hostile["run"]["name"] = HOSTILE
    for trial in hostile["trials"]:
        trial["name"] = trial["error"] = HOSTILE
        for prompt in trial["prompts"]:
            prompt["prompt"] = HOSTILE
            prompt["iterations"][0]["responses"][0]["text"] = HOSTILE
    html = render_page(hostile)
    assert "alert(1)</script>" not in html
    assert "<img" not in html.partition('<script type="application/json"')[0]
    assert len(_scripts(html)) == len(_scripts(render_page(data)))
    assert _embedded(html) == hostile


def test_only_the_pages_own_scripts_may_run_and_nothing_may_be_fetched(
    data: dict[str, Any],
) -> None:
    html = render_page(data)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    digests = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in _scripts(html)
    ]
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]
    assert "connect-src" not in rules
    assert "connect-src 'self'" in render_page(data, is_live=True)


def test_the_page_of_nine_trials_is_small() -> None:
    html = render_page(report_content(synthetic_run(9), link=no_link))
    assert len(html.encode()) < 2_500_000


def test_scripts_make_no_markup_of_texts() -> None:
    folder = files("rllib_dapo.reporting").joinpath("page")
    scripts = [path for path in folder.iterdir() if path.name.endswith(".js")]
    names = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(")
    assert {path.name for path in scripts if names.search(path.read_text())} == set()
    # Each is a part of the page's script.
    assert {path.name for path in scripts} == set(SCRIPTS)


def test_nothing_is_loaded_from_anywhere(data: dict[str, Any]) -> None:
    html = render_page(data)
    markup = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert re.findall(r'(?:src|href)="([^"]*)"', markup) == ["data:,"]
    assert not re.findall(r"@import|url\(", markup)
    assert _unpacked(html, "plotly").count("plotly.js (cartesian - minified) v") == 1


def test_links_lead_from_the_page_to_the_run(tmp_path: Path) -> None:
    link = link_from(tmp_path / "run" / "report.html")
    assert (
        link(str(tmp_path / "run" / "trial_00000" / "checkpoint_000001"))
        == "trial_00000/checkpoint_000001"
    )
    assert link(str(tmp_path / 'odd "name" #1')) == "../odd%20%22name%22%20%231"
    assert no_link("bucket/run") == ""
