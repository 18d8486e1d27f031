"""What is written while a run goes on, beside Tune's results: gauges, tables of responses, recordings."""
