"""Several sources of problems mixed by weights, as a pure function of the reset seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from rllib_dapo.envs.env_settings import is_finite_number
from rllib_dapo.envs.splits import DatasetOrder


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedOrder:
    """Visits several sources in proportion to their weights, each in epochs of its own.

    Nothing is drawn at random: of the first `n` positions, a source of share `w` has `n * w`, give
    or take less than the number of sources, so that every batch holds the mixture.

    Attributes:
        sizes: Number of problems of each source, at least 1.
        weights: A positive weight for each source.
        seed: Seed that chooses among the orders within the sources.
    """

    sizes: tuple[int, ...]
    weights: tuple[Fraction, ...]
    seed: int = 0

    def __call__(self, position: int) -> int:
        """Returns the problem number at a position >= 0.

        Problem numbers count through the sources one after the other.
        """
        source, visit = share_and_visit(position, self.weights)
        first = sum(self.sizes[:source])
        return first + DatasetOrder(size=self.sizes[source], seed=self.seed)(visit)


def share_and_visit(position: int, weights: Sequence[Fraction]) -> tuple[int, int]:
    """Returns the source at a position of a mixture, and how often it was visited before.

    Of the first `n` positions, a source of share `w` has `n * w`, give or take less than the number
    of sources; of any as many positions as whole weights add up to, from a multiple of that on, it
    has exactly its weight.

    Args:
        position: Position in the endless visit, at least 0.
        weights: A positive weight for each source.

    Returns:
        The number of the source, and its own position.
    """
    rest = sum(weights, Fraction())
    for source, weight in enumerate(weights):
        share = weight / rest
        # Of the positions left by earlier sources, this one takes those at which the whole part of
        # n * share grows.
        visit = int(position * share)
        if int((position + 1) * share) > visit:
            return source, visit
        rest, position = rest - weight, position - visit
    raise ValueError(f"weights={list(weights)}: must hold a positive weight")


def check_weights(value: Any, sizes: Sequence[int]) -> tuple[Fraction, ...]:
    """Returns the setting `weights` as exact numbers, one for each source.

    Args:
        value: The value that the user set.
        sizes: Number of problems of each source.

    Raises:
        ValueError: If it is not a list of as many positive numbers, or a source has no problem.
    """
    listed = list(value) if isinstance(value, list | tuple) else []
    if len(listed) != len(sizes) or not all(is_finite_number(one) and one > 0 for one in listed):
        raise ValueError(
            f"weights={value!r}: must be a list of positive numbers, "
            f"one for each of the {len(sizes)} entries of path"
        )
    if 0 in sizes:
        raise ValueError(
            f"weights={value!r}: no problem of entry {sizes.index(0)} of path is used; "
            "leave it out, or change split, heldout_fraction or limit"
        )

    # By way of the text: 0.1 means a tenth, not the nearest binary fraction.
    return tuple(Fraction(str(one)) for one in listed)
