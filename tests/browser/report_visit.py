"""A report that was opened in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

PATIENCE_MS = 800_000  # only against hanging, however busy the machine
DRAWN = "html[data-drawn-after]"
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 800}


def wait_until(page: Page, expression: str) -> None:
    """Waits until JavaScript gives something true.

    Playwright's own waiting evaluates the text in the page, which the page's policy forbids.
    """
    while not page.evaluate(expression):
        page.wait_for_timeout(50)


class Visit:
    """A page that was opened, with all that it complained of and asked for."""

    def __init__(self, browser: Browser, place: Path | str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": WIDE, **options})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on(
            "console", lambda message: self.complaints.append(f"{message.type}: {message.text}")
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(place if isinstance(place, str) else place.as_uri())
        self.page.wait_for_selector(DRAWN, state="attached")

    def reach(self, selector: str) -> Locator:
        """Scrolls to a plot, which is drawn when it comes near the window."""
        plot = self.page.locator(selector)
        plot.scroll_into_view_if_needed()
        expect(plot.locator("svg.main-svg")).not_to_have_count(0)
        return plot

    def is_as_wide_as_its_window(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))

    def cut_off(self) -> list[str]:
        """What is wider than its place, so that a reader would have to scroll sideways to see it.

        Parts that are not shown, and what a list of choices shortens itself, do not count.
        """
        return self.page.evaluate(
            """() => [...document.querySelectorAll("main *, header *")]
                .filter((node) => node.clientWidth && !node.closest("svg, .plot, select, [hidden]"))
                .filter((node) => node.scrollWidth > node.clientWidth + 1
                    && getComputedStyle(node).display !== "inline")
                .map((node) => `${node.tagName} ${node.id} ${node.className}`)"""
        )
