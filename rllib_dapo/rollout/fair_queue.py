"""Requests of several clients of one engine, admitted so that none of them starves another."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from rllib_dapo.rollout.engine import Request


class FairQueue:
    """Requests that wait, a queue for each client, and how much of each client is under way.

    The next request is one of the client with the fewest responses under way, and of several such
    clients that of the one whose turn was longest ago. So a client alone has all places, and of
    several that ask for more than there is, each has an equal share as soon as places become free.
    """

    def __init__(self, capacity: int) -> None:
        """Nothing waits.

        Args:
            capacity: Number of responses that may be under way at a time. A single request may have
                more: it is admitted when nothing else is under way.
        """
        self._capacity = capacity
        # In the order of turns: a client that has had one goes to the end.
        self._waiting: dict[str, deque[Request]] = {}
        self._under_way: dict[str, int] = {}

    def put(self, client: str, request: Request) -> None:
        """Adds a request to a client's queue."""
        self._waiting.setdefault(client, deque()).append(request)

    def pop(self) -> tuple[str, Request] | None:
        """The next request to be admitted, which then counts as under way; None if none may be."""
        clients = [client for client, waiting in self._waiting.items() if waiting]
        if not clients:
            return None
        client = min(clients, key=lambda one: self._under_way.get(one, 0))  # the first of equals
        waiting = self._waiting[client]

        total = sum(self._under_way.values())
        if total and total + len(waiting[0].wanted) > self._capacity:
            return None

        request = waiting.popleft()
        self._waiting[client] = self._waiting.pop(client)
        self._under_way[client] = self._under_way.get(client, 0) + len(request.wanted)
        return client, request

    def finish(self, client: str, responses: int = 1) -> None:
        """Responses of a client have ended."""
        self._under_way[client] = self._under_way.get(client, 0) - responses

    def remove(self, client: str, keys: Collection[int] | None = None) -> int:
        """Drops requests of a client that wait: those with some keys, or all.

        Returns:
            The number of their responses.
        """
        waiting = self._waiting.get(client, deque())
        kept = [] if keys is None else [r for r in waiting if r.key not in keys]
        self._waiting[client] = deque(kept)
        return sum(len(r.wanted) for r in waiting) - sum(len(r.wanted) for r in kept)

    def forget(self, client: str) -> None:
        """Drops all that is known of a client. Nothing of it is under way any more."""
        self._waiting.pop(client, None)
        self._under_way.pop(client, None)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not any(self._waiting.values())
