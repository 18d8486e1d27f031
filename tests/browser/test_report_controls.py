"""Every control of the page, on a sweep of three seeds at three pairs of clip bounds."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from benchmarks.synthetic_run import synthetic_run
from rllib_dapo.reporting.render_page import no_link, render_page
from rllib_dapo.reporting.report_content import report_content
from tests.browser.report_visit import Visit, wait_until

ENTROPY = 1  # its panel
COMPARISON = {
    "metric": "env_runners/accuracy",
    "mode": "max",
    "verdict": "difference",
    "text": "a difference: <b>the third</b> is better",
    "settings": ["epsilon_low", "epsilon_high"],
    "points": [
        {"settings": {"epsilon_low": 0.1}, "trials": [0, 1, 2], "mark": "same", "equal_to": [2],
         "text": "cannot be told from the best"},
        {"settings": {"epsilon_low": 0.15}, "trials": [3, 4, 5], "mark": "worse", "equal_to": [],
         "text": "worse than the best"},
        {"settings": {"epsilon_low": 0.2}, "trials": [6, 7, 8], "mark": "best", "equal_to": [0],
         "text": "the best"},
    ],
    "order": [2, 0, 1],
    "idle": [{"setting": "epsilon_low", "text": "idle: epsilon_low: no token was clipped"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return report_content(synthetic_run(9, 60), link=no_link) | {"sweep_comparison": COMPARISON}


@pytest.fixture(scope="module")
def page_file(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("controls") / "report.html"
    path.write_text(render_page(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def opened(chromium: Browser, page_file: Path) -> Iterator[Visit]:
    visit = Visit(chromium, page_file, accept_downloads=True)
    yield visit
    visit.context.close()


# As the page was opened: quicker than to load it anew for each test.
_RESET = """() => {
    const set = (id, name, value, kind) => {
        const control = document.getElementById(id);
        control[name] = value;
        control.dispatchEvent(new Event(kind));
    };
    set("axis", "value", "iteration", "change");
    set("smoothing", "value", "0", "input");
    set("log", "checked", false, "change");
    set("seeds", "checked", true, "change");
    set("figure-filter", "value", "", "input");
    set("heat-value", "value", "0", "change");
    set("response-search", "value", "", "input");
    set("response-kind", "value", "all", "change");
    set("response-prompt", "value", "0", "change");
    document.getElementById("show-all").click();
}"""


@pytest.fixture
def page(opened: Visit) -> Iterator[Page]:
    """The page with every control as it was at first, and a panel of curves in the window."""
    opened.page.evaluate(_RESET)
    opened.reach(f"#panel-{ENTROPY}")
    expect(opened.page.locator(f"#panel-{ENTROPY} .scatterlayer .trace")).to_have_count(6)
    yield opened.page
    assert opened.complaints == []
    # Nothing was fetched: what is saved is made in the page.
    assert {url.partition(":")[0] for url in opened.requests} <= {"file", "blob", "data"}


def _lines(page: Page, panel: int = ENTROPY) -> list[dict[str, Any]]:
    """The lines that a panel draws: names and values, without bands."""
    return page.evaluate(
        f"""document.getElementById("panel-{panel}").data
            .filter((trace) => trace.name !== "band")
            .map(({{ name, x, y }}) => ({{ name, x: [...x], y: [...y] }}))"""
    )


def _saved(page: Page, place: str, kind: str) -> bytes:
    """What a button of a part of the page saves."""
    with page.expect_download() as found:
        page.locator(place).get_by_role("button", name=kind).first.click()
    assert found.value.suggested_filename.endswith(kind.lower())
    return Path(found.value.path()).read_bytes()


def test_seeds_make_one_line_with_a_band(page: Page, content: dict[str, Any]) -> None:
    expect(page.locator("#seeds")).to_be_checked()
    lines = _lines(page)
    assert [line["name"].partition(" \u00b7 ")[2] for line in lines] == ["3 seeds"] * 3
    curves = [
        content["trials"][trial]["figures"]["learners/default_policy/entropy"]["y"]
        for trial in content["seed_groups"][0]
    ]
    means = [sum(values) / 3 for values in zip(*curves, strict=True)]
    assert lines[0]["y"] == pytest.approx(means)
    bands = page.evaluate(
        f"""document.getElementById("panel-{ENTROPY}").data
            .filter((trace) => trace.name === "band").map((trace) => [...trace.y])"""
    )
    highest = [max(values) for values in zip(*curves, strict=True)]
    assert bands[0][: len(highest)] == pytest.approx(highest)

    page.locator("#seeds").uncheck()
    expect(page.locator(f"#panel-{ENTROPY} .scatterlayer .trace")).to_have_count(9)
    assert page.locator("#curves-note").inner_text() == ""


def test_smoothing_and_a_logarithmic_scale_change_the_curves(page: Page) -> None:
    before = _lines(page)[0]["y"]
    page.locator("#smoothing").fill("0.9")
    wait_until(
        page,
        f"document.getElementById('panel-{ENTROPY}').data.at(-1).y[5] !== undefined"
        " && document.getElementById('curves-note').textContent.includes('keeps 0.9')",
    )
    wait_until(page, f"document.getElementById('panel-{ENTROPY}').data.at(-3).y[5] !== {before[5]}")
    after = _lines(page)[0]["y"]
    assert after[0] == pytest.approx(before[0])  # it does not begin at zero
    jumps = [sum(abs(b - a) for a, b in pairwise(y)) for y in (before, after)]
    assert jumps[1] < jumps[0]

    page.locator("#log").check()
    wait_until(page, f"document.getElementById('panel-{ENTROPY}').layout.yaxis.type === 'log'")
    expect(page.locator("#curves-note")).to_contain_text("nothing at 0 and below")


def test_any_figure_of_the_results_can_be_drawn(opened: Visit, page: Page) -> None:
    opened.reach("#plot-any")
    expect(page.locator("#figure-name")).to_have_text("env_runners/accuracy")
    page.locator("#figure-filter").fill("reward_comp")
    options = page.locator("#figure option")
    expect(options).to_have_count(2)
    assert page.locator("#figure optgroup").get_attribute("label") == "sampling and rewards"
    page.select_option("#figure", "env_runners/reward_components/form")
    expect(page.locator("#figure-name")).to_have_text("env_runners/reward_components/form")
    expect(page.locator("#figure-meaning")).to_contain_text("mean of each part of the reward")
    page.locator("#figure-filter").fill("timers/")
    expect(page.locator("#figure-count")).to_contain_text("12 of ")
    expect(page.locator("#figure-name")).to_have_text("timers/part_0")


def test_hovering_lists_every_curve_at_that_place(opened: Visit, page: Page) -> None:
    page.locator("#seeds").uncheck()
    expect(page.locator(f"#panel-{ENTROPY} .scatterlayer .trace")).to_have_count(9)
    opened.reach(f"#panel-{ENTROPY}").locator(".nsewdrag").hover()
    rows = page.locator("#hover-list tbody tr")
    expect(rows).to_have_count(9)
    heading = page.locator("#hover-list strong").inner_text()
    iteration = int(heading.removeprefix("training iterations: "))
    lines = _lines(page)
    values = sorted((line["y"][line["x"].index(iteration)] for line in lines), reverse=True)
    shown = [float(text) for text in page.locator("#hover-list td.number").all_inner_texts()]
    assert shown == pytest.approx(values, rel=1e-3)
    page.mouse.move(5, 5)
    expect(page.locator("#hover-list")).to_be_hidden()


def test_line_styles_have_a_legend(page: Page) -> None:
    legend = page.locator("#panels figure").nth(0).locator(".styles")
    expect(legend).to_contain_text("training, and ended by itself")
    expect(legend.locator(".sample")).to_have_count(3)
    expect(legend.locator(".sample.squares")).to_have_count(1)


def test_all_the_best_or_none_can_be_shown(page: Page) -> None:
    page.locator("#seeds").uncheck()
    traces = page.locator(f"#panel-{ENTROPY} .scatterlayer .trace")
    for button, count in {"best": 5, "none": 0, "all": 9}.items():
        page.locator(f"#show-{button}").click()
        expect(traces).to_have_count(count)
        expect(page.locator("#chips button[aria-pressed=true]")).to_have_count(count)


def test_the_map_shows_what_the_comparison_over_seeds_has_found(opened: Visit, page: Page) -> None:
    opened.reach("#heatmap")
    texts = page.locator("#comparison p").all_inner_texts()
    assert texts[0] == "a difference: <b>the third</b> is better"
    assert texts[1] == "idle: epsilon_low: no token was clipped"
    # Said once: not at the top of the page, too.
    assert not [note for note in page.locator("#notes li").all_inner_texts() if "idle" in note]
    cells = page.evaluate("document.getElementById('heatmap').data[0].text.flat()")
    marks = [text.partition("<br>")[2] for text in cells]
    assert marks == ["\u2248", "", "\u2605"]
    hover = page.evaluate("document.getElementById('heatmap').data[0].customdata.flat()")
    assert "exactly equal to epsilon_low 0.2" in next(text for text in hover if text)

    # Another outcome than the compared one has no marks.
    page.select_option("#heat-value", label="last entropy")
    wait_until(
        page, "!document.getElementById('heatmap').data[0].text.flat().join().includes('\u2605')"
    )


def test_each_setting_has_its_share_of_the_variance(page: Page, content: dict[str, Any]) -> None:
    rows = page.locator("#importance-list .importance")
    (expected,) = [
        entry["settings"]
        for entry in content["importance"]
        if entry["outcome"] == "last env_runners/accuracy"
    ]
    assert [row["setting"] for row in expected] == rows.evaluate_all(
        "rows => rows.map((row) => row.dataset.setting)"
    )
    expect(rows.first).to_contain_text(f"by chance {100 * expected[0]['by_chance']:.0f} %")
    expect(rows.first).to_contain_text("9 trials")


def test_two_trials_show_the_settings_that_differ(page: Page, content: dict[str, Any]) -> None:
    page.select_option("#first-trial", "0")
    page.select_option("#second-trial", "8")
    settings = page.locator("#difference tbody tr[data-kind=setting]")
    assert settings.locator(".what").all_inner_texts() == ["epsilon_low", "seed"]
    page.select_option("#second-trial", "1")
    expect(settings).to_have_count(1)
    expect(page.locator("#difference-note")).to_have_text("1 setting differs.")


def test_responses_are_filtered_and_searched(page: Page, content: dict[str, Any]) -> None:
    page.select_option("#response-trial", "2")
    page.select_option("#response-prompt", "all")
    everything = [
        response
        for prompt in content["trials"][2]["prompts"]
        for entry in prompt["iterations"]
        for response in entry["responses"]
    ]
    shown = page.locator("#response-list .responses .card")
    expect(shown).to_have_count(len(everything))
    wanted = {
        "wrong": [r for r in everything if r["verdict"] == "wrong"],
        "cut": [r for r in everything if r["is_truncated"]],
        "missing": [r for r in everything if r["verdict"] == "missing"],
        "correct": [r for r in everything if r["verdict"] == "correct"],
        "graded": [],
    }
    for kind, responses in wanted.items():
        page.select_option("#response-kind", kind)
        expect(shown).to_have_count(len(responses))
    expect(page.locator("#response-count")).to_have_text("No response is like that.")

    page.select_option("#response-kind", "all")
    page.select_option("#response-prompt", "0")
    page.locator("#response-search").fill("JUDGE")
    expect(shown).to_have_count(len(wanted["missing"]))  # words are looked for in all prompts
    expect(page.locator("#response-prompt")).to_have_value("all")


def test_one_prompt_is_followed_over_the_iterations(page: Page) -> None:
    page.select_option("#response-prompt", "0")
    strip = page.locator("#response-list .strip button")
    expect(strip).to_have_count(7)
    expect(strip.first.locator(".square")).to_have_count(4)
    strip.last.click()
    last = page.locator(".iteration[data-iteration='60']")
    expect(last).to_be_in_viewport()


def test_pictures_and_numbers_of_what_is_shown_are_saved(opened: Visit, page: Page) -> None:
    place = f"figure:has(#panel-{ENTROPY})"
    assert _saved(page, place, "PNG").startswith(b"\x89PNG")
    rows = list(csv.DictReader(StringIO(_saved(page, place, "CSV").decode())))
    lines = _lines(page)
    assert len(rows) == sum(len(line["y"]) for line in lines)
    assert float(rows[0]["value"]) == pytest.approx(lines[0]["y"][0])
    assert rows[0]["seeds"] == "3"
    assert rows[0]["training iterations"] == "1"
    page.locator("#show-none").click()
    opened.reach(f"#panel-{ENTROPY}")
    expect(page.locator(f"#panel-{ENTROPY} .scatterlayer .trace")).to_have_count(0)
    assert json.loads(_saved(page, place, "JSON")) == []

    # Tables as they are sorted and filtered.
    page.locator("#table thead button").first.click()
    page.locator("#table thead button").first.click()
    table = json.loads(_saved(page, "#trials", "JSON"))
    assert [row["trial"] for row in table][:2] == ["trial_00008", "trial_00007"]
    page.select_option("#response-kind", "missing")
    responses = json.loads(_saved(page, "#responses", "JSON"))
    assert {row["verdict"] for row in responses} == {"missing"}


def test_every_part_can_be_saved(chromium: Browser, page_file: Path) -> None:
    """With pages for eight files each: Chromium lets one save ten that no mouse has asked for."""
    saved, number = 0, 1
    while saved < number:
        visit = Visit(chromium, page_file, accept_downloads=True)
        buttons = visit.page.locator(".downloads button", has_text="JSON").all()
        shown = [button for button in buttons if button.is_visible()]
        number = len(shown)
        for button in shown[saved : saved + 8]:
            # Not by the mouse: plots that are drawn meanwhile move the button.
            with visit.page.expect_download() as found:
                button.evaluate("button => button.click()")
            assert isinstance(json.loads(Path(found.value.path()).read_bytes()), list)
            saved += 1
        visit.context.close()
    assert saved > 10


def test_a_spreadsheet_takes_no_text_for_a_formula(
    chromium: Browser, content: dict[str, Any], tmp_path: Path
) -> None:
    changed = json.loads(json.dumps(content))
    for trial in changed["trials"]:
        trial["prompts"] = trial["prompts"][:1]
        trial["prompts"][0]["prompt"] = '=HYPERLINK("http://x", "a, b")'
    path = tmp_path / "report.html"
    path.write_text(render_page(changed), encoding="utf-8")
    visit = Visit(chromium, path, accept_downloads=True)
    saved = _saved(visit.page, "#responses", "CSV").decode()
    (row, *_) = csv.DictReader(StringIO(saved))
    assert row["prompt"] == """'=HYPERLINK("http://x", "a, b")"""
    visit.context.close()


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
def test_no_column_is_cut_off_at_any_width(chromium: Browser, page_file: Path, width: int) -> None:
    scheme = "dark" if width in (360, 1920) else "light"
    size = {"width": width, "height": 900}
    visit = Visit(chromium, page_file, viewport=size, color_scheme=scheme)
    visit.page.locator("#further summary").click()
    visit.page.locator("#configuration summary").click()
    visit.reach("#parallel")
    assert visit.is_as_wide_as_its_window()
    assert visit.cut_off() == []
    headings = visit.page.locator("#table thead button").all_inner_texts()
    assert visit.page.locator("#table tbody tr").first.locator("td").count() == len(headings)
    visit.context.close()


def test_two_runs_are_compared_on_one_page(chromium: Browser, tmp_path: Path) -> None:
    first = synthetic_run(3, 20, name="first")
    second = replace(synthetic_run(4, 20, name="second"), folder="/runs/second")
    path = tmp_path / "both.html"
    path.write_text(render_page(report_content(first, second, link=no_link)), encoding="utf-8")
    visit = Visit(chromium, path)
    runs = visit.page.locator("#runs li").all_inner_texts()
    assert [text.split(" /")[0] for text in runs] == ["A first 3 trials,", "B second 4 trials,"]
    visit.page.locator("#seeds").uncheck()
    visit.reach(f"#panel-{ENTROPY}")
    names = {line["name"].split(" \u00b7 ")[0] for line in _lines(visit.page)}
    assert names == {f"A trial_0000{n}" for n in range(3)} | {f"B trial_0000{n}" for n in range(4)}
    assert visit.complaints == []
    visit.context.close()
