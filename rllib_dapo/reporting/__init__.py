"""Reports of runs: one page, one picture, or the figures as JSON and CSV."""
