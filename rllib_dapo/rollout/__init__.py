"""Rollouts: engines sample responses, environments score them, dynamic sampling picks groups."""
