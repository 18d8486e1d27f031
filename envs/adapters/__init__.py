"""Environments made from other code.

That is reasoning-gym, OpenEnv servers, plain objects and reward functions.
"""
