"""Whole checkpoints or none: what the driver saves, restores and exports."""
