"""Sampling: engines, the EnvRunner around them, dynamic sampling's decisions, and their dispatch."""
