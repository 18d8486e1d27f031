"""Rollouts: engines sample responses, environments score them, dynamic sampling picks groups."""

import os

# Torch then asks the system for large pages, where it offers them (Linux): engines take new weights
# into memory that is cleared in pieces of 2 MiB, not of 4 KiB, in two thirds of the time. Torch
# reads this once, so it is set before any module of this room loads torch.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
