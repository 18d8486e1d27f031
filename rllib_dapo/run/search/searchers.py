"""What draws the values of search spaces: Tune itself, or Optuna.

A run file names it as in `tune.searcher: {type: optuna, seed: 3}`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ray.rllib.utils.annotations import override
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter, SearchAlgorithm, Searcher

from rllib_dapo.run.search.clip_bounds import HIGH, LOW
from rllib_dapo.run.search.option_checks import OptionCheck, check_options, count, natural
from rllib_dapo.run.search.search_spaces import Space, attribute_path, space_from, space_parts

OPTIONS: Mapping[str, Mapping[str, OptionCheck]] = {
    "random": {"seed": natural},
    "optuna": {"seed": natural, "startup_trials": count},
}


def check_searcher(
    content: Mapping[str, Any],
    *,
    search: Mapping[str, Space],
    scheduler: str,
    has_variants: bool,
    metric: str,
) -> Iterator[str]:
    """Findings on `tune.searcher` together with the rest of a run file.

    Args:
        content: Value of `tune.searcher`.
        search: Section `search`.
        scheduler: Type of the scheduler.
        has_variants: Whether the file has variants.
        metric: Metric by which trials are compared.

    Yields:
        One line for each finding.
    """
    findings = list(check_options("tune.searcher", content, OPTIONS))
    yield from findings
    if findings or content["type"] == "random":
        return

    if importlib.util.find_spec("optuna") is None:
        yield (
            "tune.searcher: optuna is not installed: pip install -e '.[optuna]' in a checkout of "
            "this package, or leave it out"
        )
    if scheduler == "pbt":
        yield "tune.searcher: pbt draws values itself: leave the searcher out"
    if has_variants:
        yield (
            "tune.searcher: optuna draws numbers and does not know variants: leave out one of the "
            "two"
        )
    if not search:
        yield "tune.searcher: optuna has nothing to draw: give spaces in `search`"
    grids = [name for name, space in search.items() if "grid" in space]
    if grids:
        yield (
            "tune.searcher: optuna draws values and does not go through a grid: write "
            f"search.{grids[0]} as {{choice: [...]}}"
        )
    if metric.startswith("evaluation/"):
        yield (
            "tune.searcher: optuna needs a metric of every iteration, and only evaluations report "
            f"tune.metric={metric}"
        )


@dataclass(frozen=True, slots=True)
class OptunaSpace:
    """A search space as Optuna's define-by-run function.

    It is a function because the space of the upper clip bound depends on the lower bound drawn.

    Attributes:
        search: Search spaces by dotted name.
    """

    search: Mapping[str, Space]

    def __call__(self, trial: Any) -> dict[str, Any]:
        """Asks one of Optuna's trials for values, by attribute of the configuration."""
        values: dict[str, Any] = {}
        for name in sorted(self.search, key=lambda name: name == HIGH):  # the upper bound last
            space = self.search[name]
            if name == HIGH and LOW in self.search:
                space = space_from(space, values[LOW])
            values[name] = _suggest(trial, "/".join(attribute_path(name)), space)
        return {"/".join(attribute_path(name)): value for name, value in values.items()}


def _suggest(trial: Any, name: str, space: Space) -> Any:
    kind, values = space_parts(space)
    if kind == "choice":
        return trial.suggest_categorical(name, values)
    low, high = values
    # Where the lower bound leaves a single value of the upper one, there is no scale.
    return trial.suggest_float(name, low, high, log=kind == "loguniform" and low < high)


class OpenVariantGenerator(BasicVariantGenerator):
    """Ray's generator, which does not say that it is finished while trials are still running.

    Once the search is over, Tune stops an actor that no trial is waiting for. Where trials take
    turns, as in population based training and in a race, that can be the actor whose trial goes on
    next while all others are paused, and with the actor goes its engine.
    """

    @override(BasicVariantGenerator)
    def is_finished(self) -> bool:
        """Whether no trial is still to come or still running."""
        return bool(super().is_finished() and not self._live_trials)


def make_searcher(
    content: Mapping[str, Any],
    *,
    search: Mapping[str, Space],
    metric: str,
    mode: str,
    max_concurrent: int,
    scheduler: str,
    has_seeds: bool = False,
) -> Searcher | SearchAlgorithm:
    """Builds a searcher.

    Args:
        content: Value of `tune.searcher`, checked by `check_searcher`.
        search: Section `search`.
        metric: Metric by which trials are compared.
        mode: Whether a higher (`max`) or a lower (`min`) value is better.
        max_concurrent: Number of trials that may run at the same time; 0 sets no limit.
        scheduler: Type of the scheduler.
        has_seeds: Whether each point runs under several seeds, so that what is drawn is the same
            for all of them.
    """
    seed = int(content.get("seed", 0))
    if content["type"] == "random":
        takes_turns = scheduler in ("pbt", "race")
        generator = OpenVariantGenerator if takes_turns else BasicVariantGenerator
        return generator(
            random_state=seed, max_concurrent=max_concurrent, constant_grid_search=has_seeds
        )

    import optuna  # an optional package
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    startup_trials = int(content.get("startup_trials", 10))
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup_trials)
    searcher = OptunaSearch(space=OptunaSpace(search), metric=metric, mode=mode, sampler=sampler)
    if not max_concurrent:
        return searcher
    return ConcurrencyLimiter(searcher, max_concurrent=max_concurrent)
