"""`search.seeds`: every point of a search runs under the same seeds, so that they can be compared.

Two points that differ in their seeds, too, differ by what those do, which in small runs is more
than what most settings do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ray.tune.search.sample import Domain

from rllib_dapo.run.search.option_checks import count, natural

SEEDS = "seeds"
_SEED = "debugging.seed"


def check_seeds(value: Any) -> Iterator[str]:
    """A finding where the setting's value is of no use.

    Args:
        value: Value of `search.seeds`.

    Yields:
        At most one line.
    """
    if isinstance(value, list):
        is_right = all(natural(one) is None for one in value) and len(set(value)) == len(value)
        is_right = is_right and len(value) >= 2
    else:
        is_right = count(value) is None and value >= 2
    if not is_right:
        yield (
            f"search.{SEEDS}={value!r} must be a number of seeds, at least 2, or a list of "
            "different seeds such as [0, 1, 2]"
        )


def listed_seeds(value: Any, *, first: int | None) -> tuple[int, ...]:
    """The seeds that a run file asks for.

    Args:
        value: Value of `search.seeds`, checked; None where it is not set.
        first: `debugging.seed`, from which a number of seeds counts.
    """
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(int(one) for one in value)
    start = first or 0
    return tuple(range(start, start + int(value)))


def check_pairs(
    seeds: Sequence[int],
    *,
    search: Mapping[str, Mapping[str, Any]],
    variants: Mapping[str, Mapping[str, Any]],
    scheduler: str,
    searcher: str,
    num_samples: int,
    unread_seed: Any = None,
) -> Iterator[str]:
    """Findings where trials of different points could not be paired by their seeds.

    Args:
        seeds: The seeds; none where the setting is not used.
        search: The search spaces.
        variants: Settings of each variant.
        scheduler: Type of the scheduler.
        searcher: Type of the searcher.
        num_samples: `tune.num_samples`.
        unread_seed: `debugging.seed` where it was given by hand and a list of seeds stands over it.

    Yields:
        One line for each finding.
    """
    if not seeds:
        if scheduler == "race":
            yield (
                "tune.scheduler: race compares points over seeds: give some, such as "
                f"search.{SEEDS}=5"
            )
        return

    setting = f"search.{SEEDS}"
    if _SEED in search:
        yield f"{setting}: search.{_SEED} searches for the seed itself: leave out one of the two"
    if unread_seed is not None:
        yield (
            f"{_SEED}={unread_seed} does nothing beside {setting}={list(seeds)}: leave out one of "
            "the two"
        )
    for name, settings in variants.items():
        if _SEED in settings:
            yield (
                f"{setting}: variants.{name} has a {_SEED} of its own, and all variants run under "
                "the same seeds: leave out one of the two"
            )
    if searcher == "optuna":
        yield (
            f"{setting}: optuna draws every trial anew, so no two would be the same point: use "
            "tune.searcher.type=random, or leave the seeds out"
        )
    if scheduler == "pbt":
        yield (
            f"{setting}: pbt changes the settings of trials on the way, so no two would stay the "
            "same point: leave out one of the two"
        )
    if scheduler == "asha":
        yield (
            f"{setting}: asha ends trials one by one, so points would lose different seeds: use "
            "tune.scheduler.type=race, which drops whole points, or leave the seeds out"
        )
    if num_samples > 1 and all("grid" in space for space in search.values()):
        yield (
            f"tune.num_samples={num_samples} would run every point of the grid that often under "
            f"each of {setting}: leave it at 1, and give more seeds"
        )


def holds_draws(value: Any) -> bool:
    """Whether anything inside a value is drawn at random by Tune."""
    if isinstance(value, Mapping):
        return any(holds_draws(inner) for inner in value.values())
    return isinstance(value, Domain)
