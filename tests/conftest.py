"""What holds for every test: no model hub, no telemetry. Set here, before anything reads it at import."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
