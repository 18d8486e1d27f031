"""The Grafana dashboard of a run, and what Prometheus and Grafana need to show it."""
