"""The page of a run that goes on, in a browser."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

from playwright.sync_api import Browser, expect

from rllib_dapo.reporting.live_run import LiveRun
from rllib_dapo.reporting.live_server import LiveServer
from tests.browser.report_visit import Visit, wait_until


def test_curves_grow_while_the_run_goes_on_and_choices_stay(
    chromium: Browser, sweep_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(sweep_folder, tmp_path / "run"))
    with LiveServer(LiveRun([str(folder)])) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        visit = Visit(chromium, server.url)
        page = visit.page
        expect(page.locator("#live")).to_contain_text("live")
        page.select_option("#axis", "update")
        page.locator("#chips button").nth(3).click()
        visit.reach("#panel-1")

        result = folder / "trial_00000" / "result.json"
        last = json.loads(result.read_text().splitlines()[-1])
        last["training_iteration"] = 5
        last["learners"]["default_policy"]["num_gradient_updates_lifetime"] = 10.0
        with result.open("a") as file:
            file.write(json.dumps(last) + "\n")
        wait_until(page, "document.getElementById('panel-1').data[0].x.length === 5")
        drawn_over = page.evaluate("[...document.getElementById('panel-1').data[0].x]")
        assert drawn_over == [2, 4, 6, 8, 10]
        expect(page.locator("#axis")).to_have_value("update")
        expect(page.locator("#chips button[aria-pressed=false]")).to_have_count(1)
        expect(page.locator("#table tbody tr").first).to_contain_text("5")

        # Nobody but its own server was asked, and nothing was complained of.
        own = f"http://127.0.0.1:{server.server_port}/"
        assert [url for url in visit.requests if not url.startswith((own, "data:"))] == []
        assert visit.complaints == []
        server.shutdown()
        thread.join()
    expect(page.locator("#live")).to_contain_text("no longer live")
    visit.context.close()
