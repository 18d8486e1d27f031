"""Take the pictures of docs/report.md.

    python tools/take_pictures.py RUN_DIR

RUN_DIR is the folder of a sweep with sampled responses. Like `make test-browser`, this needs
Debian's Chromium and Playwright.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from rllib_dapo.reporting.write_report import write_report

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 800}


def opened(browser: Browser, page_file: Path, **options: Any) -> Page:
    """Opens a page, and returns it when the visible part is drawn."""
    page = browser.new_context(**{"viewport": WIDE, **options}).new_page()
    page.goto(page_file.as_uri())
    page.wait_for_selector("html[data-drawn-after]", state="attached")
    return page


def take(page: Page, name: str, *, section: str | None = None) -> None:
    """Takes a picture of the window, scrolled to a section if one is given."""
    if section is not None:
        page.evaluate(f"document.getElementById('{section}').scrollIntoView()")
        page.wait_for_timeout(2000)  # a plot is drawn when it comes near the window
    page.screenshot(path=IMAGES / f"report_{name}.png")


def main(run_dir: str) -> None:
    """Takes all pictures."""
    page_file = write_report(run_dir, say=print)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )

        light = opened(browser, page_file)
        take(light, "light", section="curves")
        take(light, "sweep", section="sweep")
        take(light, "responses", section="responses")
        dark = opened(browser, page_file, color_scheme="dark")
        take(dark, "dark", section="curves")

        touch = {"is_mobile": True, "has_touch": True, "device_scale_factor": 2}
        phone = opened(browser, page_file, viewport=PHONE, **touch)
        take(phone, "phone")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
