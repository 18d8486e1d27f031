"""The share of a run's limits that this process may use.

A limit of requests holds for whoever pays for them, and so for all EnvRunners together. They do not
talk to each other: each takes its part.
"""

from __future__ import annotations


class _Shares:
    number = 1


def share_limits(number: int) -> None:
    """Says how many processes a run's limits are for; judges that are made from now on heed it."""
    _Shares.number = max(1, number)


def share_of(amount: float | None) -> float | None:
    """Returns this process's share of an amount; None is no limit."""
    return None if amount is None else amount / _Shares.number


def share_of_count(count: int) -> int:
    """Returns this process's share of a whole number, at least 1."""
    return max(1, count // _Shares.number)
