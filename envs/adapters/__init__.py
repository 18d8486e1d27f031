"""Environments made of what others wrote: reasoning-gym, OpenEnv servers, plain objects, reward functions."""
