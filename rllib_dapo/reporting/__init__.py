"""Reports of runs: one HTML page, one picture, or the figures as JSON and CSV."""
