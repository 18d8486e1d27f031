"""A reward function as a user writes one: in a module that processes which score can import."""

from __future__ import annotations


def words(prompt: str, response: str) -> float:
    return float(len(response.split()))
