"""The table of docs/callbacks.md has the events that are called, and no others."""

from __future__ import annotations

import re

from rllib_dapo.config.rllib_settings import USED
from tests.docs.blocks import REPO


def test_the_table_has_the_events_that_are_called() -> None:
    page = (REPO / "docs" / "callbacks.md").read_text()
    first_cells = re.findall(r"^\| (`on_.+?) \|", page, re.MULTILINE)
    shown = [event for cell in first_cells for event in re.findall(r"`(on_\w+)`", cell)]
    called = {name.removeprefix("callbacks_") for name in USED if name.startswith("callbacks_on")}
    assert sorted(shown) == sorted(called)
