"""The page of a sweep: how large it is, and how long a browser takes to draw it.

    python benchmarks/report_page.py

Renders synthetic sweeps of 9 and of 200 trials with 100 iterations each and opens them in Debian's
headless Chromium, as the tests of pages do. The time begins with the navigation, and ends when the
curves in the first window are drawn: after reading, unpacking and starting the library. Writes
`results/report_page.json`. The limits are 2.5 MB for nine trials, and 3 s for 200.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import RESULTS, machine
from playwright.sync_api import Browser, sync_playwright
from synthetic_run import synthetic_run

from rllib_dapo.reporting.render_page import link_from, render_page
from rllib_dapo.reporting.report_content import report_content

ROUNDS = 5
WINDOW = {"width": 1280, "height": 900}
BYTES_LIMIT_OF_9, SECONDS_LIMIT_OF_200 = 2_500_000, 3.0


def seconds_to_draw(browser: Browser, page_file: Path) -> tuple[float, float]:
    """Opens a page anew.

    Returns:
        Seconds until all texts can be read, and until the plots in the window, and then those of
        the learning curves, are drawn.
    """
    page = browser.new_context(viewport=WINDOW).new_page()
    page.goto(page_file.as_uri(), wait_until="commit")
    page.wait_for_selector("html[data-drawn-after]", state="attached")
    readable, drawn = (
        float(page.evaluate(f"Number(document.documentElement.dataset.{name})")) / 1000
        for name in ("readableAfter", "drawnAfter")
    )
    page.context.close()
    return readable, drawn


def seconds_to_redraw(browser: Browser, page_file: Path) -> float:
    """Changes the axis while the panels of curves are in the window, until they are drawn again."""
    page = browser.new_context(viewport=WINDOW).new_page()
    page.goto(page_file.as_uri())
    page.wait_for_selector("html[data-drawn-after]", state="attached")
    page.locator("#panels").scroll_into_view_if_needed()
    page.locator("#panel-1 .scatterlayer .trace").first.wait_for(state="attached")
    milliseconds = page.evaluate(
        """async () => {
            const started = performance.now();
            const axis = document.getElementById("axis");
            axis.value = "token";
            axis.dispatchEvent(new Event("change"));
            const title = () => document.querySelector("#panel-1 .xtitle").textContent;
            while (title() !== "sampled tokens") await new Promise(requestAnimationFrame);
            return performance.now() - started;
        }"""
    )
    page.context.close()
    return float(milliseconds) / 1000


def measure(browser: Browser, num_trials: int, folder: Path) -> dict[str, Any]:
    """Renders one sweep and opens it several times."""
    run = synthetic_run(num_trials)
    path = folder / f"{num_trials}.html"
    content = report_content(run, link=link_from(path))
    path.write_text(render_page(content), encoding="utf-8")

    times = [seconds_to_draw(browser, path) for _ in range(ROUNDS)]
    return {
        "bytes": path.stat().st_size,
        "figures": len(content["figures"]),
        "thinned": content["thinned"],
        "seconds_until_readable": round(statistics.median(t for t, _ in times), 2),
        "seconds_until_drawn": round(statistics.median(t for _, t in times), 2),
        "seconds_until_drawn_slowest": round(max(t for _, t in times), 2),
        "seconds_to_redraw": round(
            statistics.median(seconds_to_redraw(browser, path) for _ in range(ROUNDS)), 2
        ),
    }


def main() -> None:
    """Measures both sweeps, and fails where one misses its limit."""
    program = shutil.which("chromium")
    if program is None:
        sys.exit("needs chromium, a package of Debian")

    found = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for num_trials in (9, 200):
            found[num_trials] = measure(browser, num_trials, Path(folder))
            print(f"{num_trials} trials: {found[num_trials]}", flush=True)
        browser.close()

    is_met = (
        found[9]["bytes"] <= BYTES_LIMIT_OF_9
        and found[200]["seconds_until_drawn"] <= SECONDS_LIMIT_OF_200
    )
    outcome = {
        "trials": found,
        "rounds": ROUNDS,
        "bytes_limit_of_9": BYTES_LIMIT_OF_9,
        "seconds_limit_of_200": SECONDS_LIMIT_OF_200,
        "is_met": is_met,
        "machine": machine(),
    }
    (RESULTS / "report_page.json").write_text(json.dumps(outcome, indent=1) + "\n")
    sys.exit(0 if is_met else 1)


if __name__ == "__main__":
    main()
