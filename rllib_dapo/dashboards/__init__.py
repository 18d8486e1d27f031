"""The Grafana dashboard of a run, made of the table of gauges, and what Prometheus and Grafana need to show it."""
