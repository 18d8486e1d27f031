"""Modules of benchmarks/ and tools/ import each other by their bare names, as scripts do."""

from __future__ import annotations

import sys
from pathlib import Path

REPO = Path(__file__).parents[2]

for folder in ("benchmarks", "tools"):
    # Last, so that no module there hides another of its name.
    sys.path.append(str(REPO / folder))
