"""The report of a real sweep, and of a large and hostile one, in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect

from rllib_dapo.reporting.render_page import link_from, render_page
from rllib_dapo.reporting.report_content import report_content
from rllib_dapo.reporting.report_panels import FURTHER_PANELS, ITERATION, PAPER_PANELS
from rllib_dapo.reporting.stored_run import StoredRun, StoredTrial
from rllib_dapo.reporting.write_report import write_report
from rllib_dapo.tracking.sample_record import Sample
from tests.browser.report_visit import PHONE, Visit, wait_until

HOSTILE = (
    "</script><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>"
    "<b>bold</b> [a](javascript:x)"
)


@pytest.fixture(scope="module")
def report(sweep_folder: Path) -> Path:
    return write_report(str(sweep_folder))


@pytest.fixture
def visit(chromium: Browser, report: Path) -> Iterator[Visit]:
    made = Visit(chromium, report)
    yield made
    made.context.close()


def _large_run() -> StoredRun:
    """Nine trials of 300 iterations, with responses that would like to be scripts."""
    draw = np.random.default_rng(0)
    curves = [curve for panel in (*PAPER_PANELS, *FURTHER_PANELS) for curve in panel.curves]
    columns = {
        name
        for curve in curves
        for name in (curve.column, curve.over)
        if name and "config/" not in name
    }
    trials = []
    for number in range(9):
        frame = pd.DataFrame(
            {name: draw.random(300).cumsum() / np.arange(1, 301) for name in sorted(columns)}
        )
        frame[ITERATION] = np.arange(1, 301)
        frame["time_this_iter_s"], frame["time_total_s"] = 9.0, 9.0 * frame[ITERATION]
        samples = [
            _hostile_sample(iteration, place)
            for iteration in range(0, 301, 10)
            for place in range(16)
        ]
        trials.append(
            StoredTrial(
                trial_id=str(number),
                name=f"trial_{number:05}{HOSTILE if number == 8 else ''}",
                folder=f"/run/trial_{number:05}",
                status="finished",
                error=HOSTILE if number == 8 else "",
                config={
                    "epsilon_low": 0.1 * (number // 3),
                    "epsilon_high": 0.1 * (number % 3),
                    "model_name": HOSTILE,
                },
                frame=frame,
                checkpoints=(),
                samples=tuple(samples),
            )
        )
    return StoredRun(
        name=f"large {HOSTILE}",
        folder="/run",
        is_local=True,
        metric="env_runners/accuracy",
        mode="max",
        trials=tuple(trials),
        table=pd.DataFrame(),
    )


def _hostile_sample(iteration: int, place: int) -> Sample:
    return Sample(
        iteration=iteration,
        source="evaluation",
        seed=place // 4,
        prompt=f"problem {place // 4} {HOSTILE}",
        response=f"{HOSTILE} answer {place} " * 10,
        verdict="wrong",
        reward=-1.0,
        reason=HOSTILE,
        prediction=HOSTILE,
        response_tokens=300,
        is_truncated=True,
        weights_version=iteration,
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "report.html"
    path.write_text(
        render_page(report_content(_large_run(), link=link_from(path))), encoding="utf-8"
    )
    return path


def test_every_panel_is_drawn_with_a_line_for_each_trial(visit: Visit) -> None:
    expect(visit.page.locator("#panels .plot")).to_have_count(len(PAPER_PANELS))
    for place, panel in enumerate(PAPER_PANELS):
        lines = visit.reach(f"#panel-{place}").locator(".scatterlayer .trace path.js-line")
        expect(lines.nth(3), panel.title).to_be_attached()


def test_further_panels_are_drawn_once_they_are_opened(visit: Visit) -> None:
    assert visit.page.locator("#further-panels svg").count() == 0
    visit.page.locator("#further summary").click()
    lines = visit.reach(f"#panel-{len(PAPER_PANELS)}").locator(".scatterlayer .trace")
    expect(lines.nth(3)).to_be_attached()


def test_a_sweep_has_a_heat_map_and_parallel_coordinates(visit: Visit) -> None:
    heatmap = visit.reach("#heatmap")
    expect(heatmap.locator(".heatmaplayer image")).to_have_count(1)
    expect(heatmap.locator(".heatmap-label")).to_have_count(4)
    expect(visit.reach("#parallel").locator(".scatterlayer .trace")).to_have_count(4)


def test_the_time_of_each_trial_is_split_into_six(visit: Visit) -> None:
    bars = visit.reach("#time-plot").locator(".barlayer")
    expect(bars.locator(".trace")).to_have_count(6)
    expect(bars.locator(".point")).to_have_count(24)


def test_a_timeline_has_a_row_for_each_engine_and_learner(visit: Visit) -> None:
    plot = visit.reach("#timeline-plot")
    rows = plot.locator(".yaxislayer-above .ytick")
    expect(rows).to_have_count(3)
    assert [text.strip() for text in rows.all_text_contents()] == [
        "Learner 0",
        "EnvRunner 0",
        "driver",
    ]
    first = plot.locator(".barlayer .point").count()
    assert first > 3
    visit.page.locator("#timeline-trial").select_option(index=1)
    expect(plot.locator(".barlayer .trace").first).to_be_visible()


def test_a_click_on_a_heading_sorts_the_table_and_another_turns_it_round(visit: Visit) -> None:
    heading = visit.page.locator("#table thead th", has_text="epsilon_high")
    place = visit.page.locator("#table thead th").all_inner_texts().index("epsilon_high")
    cells = visit.page.locator(f"#table tbody td:nth-child({place + 1})")
    before = cells.all_inner_texts()
    assert before == ["0.2", "0.3", "0.2", "0.3"]
    heading.get_by_role("button").click()
    assert cells.all_inner_texts() == ["0.2", "0.2", "0.3", "0.3"]
    expect(heading).to_have_attribute("aria-sort", "ascending")
    heading.get_by_role("button").click()
    assert cells.all_inner_texts() == ["0.3", "0.3", "0.2", "0.2"]
    expect(heading).to_have_attribute("aria-sort", "descending")


def test_a_click_on_a_row_brings_its_trial_to_the_fore(visit: Visit) -> None:
    visit.page.locator("#table tbody tr").nth(2).click()
    expect(visit.page.locator("#chosen")).to_contain_text("trial_00002")
    visit.reach("#panel-1")
    expect(visit.page.locator("#panel-1 .trace[style*='opacity: 0.18']")).to_have_count(3)


def test_a_trial_can_be_hidden(visit: Visit) -> None:
    visit.page.locator("#chips button").first.click()
    visit.reach("#panel-1")
    expect(visit.page.locator("#panel-1 .scatterlayer .trace")).to_have_count(3)


def test_curves_run_over_updates_tokens_or_seconds_too(visit: Visit) -> None:
    visit.reach("#panel-1")
    read = "document.getElementById('panel-1').data[0].x"
    assert visit.page.evaluate(read) == [1, 2, 3, 4]
    visit.page.select_option("#axis", "update")
    expect(visit.page.locator("#panel-1 .xtitle")).to_have_text("gradient updates")
    assert visit.page.evaluate(read) == [2, 4, 6, 8]
    for axis, title in {"token": "sampled tokens", "second": "seconds"}.items():
        visit.page.select_option("#axis", axis)
        expect(visit.page.locator("#panel-1 .xtitle")).to_have_text(title)
        measured = visit.page.evaluate(read)
        assert measured == sorted(measured)
        assert len(set(measured)) == 4


def test_responses_to_a_chosen_prompt_are_shown_by_iteration(visit: Visit) -> None:
    visit.page.select_option("#response-trial", "1")
    headings = visit.page.locator("#response-list h4")
    expect(headings).to_have_count(3)
    expect(headings.first).to_contain_text("before training")
    first = visit.page.locator("#response-list .prompt").inner_text()
    visit.page.select_option("#response-prompt", "1")
    assert visit.page.locator("#response-list .prompt").inner_text() != first


def test_a_link_leads_to_a_checkpoint(visit: Visit, report: Path) -> None:
    links = visit.page.locator("#checkpoint-list a")
    expect(links).to_have_count(8)
    assert (report.parent / (links.first.get_attribute("href") or "missing")).is_dir()


def test_the_configuration_tells_what_was_changed(visit: Visit) -> None:
    row = visit.page.locator("#changed tr", has_text="group_size")
    expect(row).to_contain_text("default: 16")


def test_the_model_tells_what_its_check_has_found(visit: Visit) -> None:
    model = visit.page.locator("#model")
    expect(model.locator("tr", has_text="log-probabilities")).to_contain_text("right")
    expect(model).to_contain_text("LlamaForCausalLM")


def _background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_the_page_is_as_dark_as_the_system_and_can_be_switched(
    chromium: Browser, report: Path
) -> None:
    light, dark = (Visit(chromium, report, color_scheme=scheme) for scheme in ("light", "dark"))
    assert _background(light.page) != _background(dark.page)
    for visit in (light, dark):
        visit.reach("#panel-0")
    fill = "getComputedStyle(document.querySelector('#panel-0 .xtitle')).fill"
    in_dark = dark.page.evaluate(fill)
    assert in_dark != light.page.evaluate(fill)
    light.page.locator("#theme").click()
    expect(light.page.locator("#theme")).to_have_text("light")
    light.reach("#panel-0")
    wait_until(light.page, f"{fill} === {in_dark!r}")
    assert _background(light.page) == _background(dark.page)
    light.context.close()
    dark.context.close()


def test_a_phone_scrolls_down_and_never_sideways(
    chromium: Browser, report: Path, large: Path
) -> None:
    for path in (report, large):
        phone = Visit(
            chromium, path, viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2
        )
        assert phone.is_as_wide_as_its_window()
        assert phone.page.evaluate("window.innerWidth") == PHONE["width"]  # not zoomed out to fit
        phone.page.locator("#further summary").click()
        assert phone.is_as_wide_as_its_window()
        phone.context.close()


def test_nothing_is_complained_of_and_nothing_asked_for(visit: Visit, report: Path) -> None:
    visit.page.locator("#further summary").click()
    for plot in visit.page.locator(".plot").all():
        visit.reach(f"#{plot.get_attribute('id')}")
    assert visit.complaints == []
    assert visit.requests == [report.as_uri()]


def test_what_a_model_writes_never_runs(chromium: Browser, large: Path) -> None:
    hostile = Visit(chromium, large)
    page = hostile.page
    for plot in page.locator(".plot:visible").all():
        hostile.reach(f"#{plot.get_attribute('id')}")
    page.locator("#table tbody tr").last.click()
    hostile.reach("#panel-0").locator(".nsewdrag").hover()
    expect(page.locator("#hover-list tbody tr")).not_to_have_count(0)
    assert HOSTILE in page.locator("#response-list .response").first.inner_text()
    assert page.locator("h1").inner_text() == f"large {HOSTILE}"
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img, main b, main a[href^='javascript']").count() == 0
    assert hostile.complaints == []
    assert hostile.requests == [large.as_uri()]
    hostile.context.close()


def test_text_can_be_read_before_the_pictures_are_drawn(chromium: Browser, large: Path) -> None:
    visit = Visit(chromium, large)
    readable, drawn = (
        int(visit.page.evaluate(f"document.documentElement.dataset.{name}"))
        for name in ("readableAfter", "drawnAfter")
    )
    assert 0 < readable < drawn
    visit.context.close()
