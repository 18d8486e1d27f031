"""What a run writes beside Tune's results: gauges, tables of responses, recordings."""
