"""Who draws the values of search spaces: Tune itself, or Optuna, as `tune.searcher: {type: optuna}` names it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ray.rllib.utils.annotations import override
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter, SearchAlgorithm, Searcher

from rllib_dapo.run.search.clip_bounds import HIGH, LOW, admissible_range, attribute_path
from rllib_dapo.run.search.options import OptionCheck, check_options, count, is_number


def _seed(value: Any) -> str | None:
    return (
        None
        if is_number(value) and value == int(value) and value >= 0
        else "a whole number of at least 0"
    )


OPTIONS: Mapping[str, Mapping[str, OptionCheck]] = {
    "random": {"seed": _seed},
    "optuna": {"seed": _seed, "startup_trials": count},
}


def check_searcher(
    content: Mapping[str, Any],
    *,
    search: Mapping[str, Mapping[str, Any]],
    scheduler: str,
    has_variants: bool,
    metric: str,
) -> Iterator[str]:
    """Findings on `tune.searcher` beside the rest of a run file.

    Args:
        content: What stands there.
        search: The section `search`.
        scheduler: The scheduler's type.
        has_variants: Whether the file has variants.
        metric: By which trials are compared.

    Yields:
        One line for each finding.
    """
    found = list(check_options("tune.searcher", content, OPTIONS))
    yield from found
    if found or content["type"] == "random":
        return
    if importlib.util.find_spec("optuna") is None:
        yield "tune.searcher: optuna is not installed: pip install 'rllib-dapo[optuna]', or leave it out"
    if scheduler == "pbt":
        yield "tune.searcher: pbt draws values itself: leave the searcher out"
    if has_variants:
        yield "tune.searcher: optuna draws numbers and knows no variants: leave out one of the two"
    if not search:
        yield "tune.searcher: optuna has nothing to draw: give spaces in `search`"
    grids = [name for name, space in search.items() if "grid" in space]
    if grids:
        yield f"tune.searcher: optuna draws and goes through no grid: write search.{grids[0]} as {{choice: [...]}}"
    if metric.startswith("evaluation/"):
        yield f"tune.searcher: optuna wants a metric of every iteration, and tune.metric={metric} is one of evaluations"


@dataclass(frozen=True, slots=True)
class Suggest:
    """A search space as Optuna's define-by-run function, where the upper bound depends on the lower one.

    Attributes:
        search: Dotted names and their spaces.
    """

    search: Mapping[str, Mapping[str, Any]]

    def __call__(self, trial: Any) -> dict[str, Any]:
        """What one trial gets, by attribute of the configuration."""
        values: dict[str, Any] = {}
        for name in sorted(self.search, key=lambda name: name == HIGH):  # the upper bound last
            space = self.search[name]
            if name == HIGH and LOW in self.search:
                space = admissible_range(space, at_least=values[LOW])
            values[name] = _suggest(trial, "/".join(attribute_path(name)), space)
        return {"/".join(attribute_path(name)): value for name, value in values.items()}


class OpenVariantGenerator(BasicVariantGenerator):
    """Ray's, which does not call itself finished while trials that it made go on.

    Tune stops an actor that no trial waits for once the search is over. In population based
    training that hits the one whose trial takes over another's weights while all others are paused;
    and with the actor goes the engine.
    """

    @override(BasicVariantGenerator)
    def is_finished(self) -> bool:
        """Whether no trial is to come, and none is left."""
        return bool(super().is_finished() and not self._live_trials)


def make_searcher(
    content: Mapping[str, Any],
    *,
    search: Mapping[str, Mapping[str, Any]],
    metric: str,
    mode: str,
    max_concurrent: int,
    scheduler: str,
) -> Searcher | SearchAlgorithm:
    """Builds a searcher.

    Args:
        content: Checked by `check_searcher`.
        search: The section `search`.
        metric: By which trials are compared.
        mode: `"max"` or `"min"`.
        max_concurrent: Trials at the same time; 0 sets no limit.
        scheduler: Its type.
    """
    seed = int(content.get("seed", 0))
    if content["type"] == "random":
        generator = OpenVariantGenerator if scheduler == "pbt" else BasicVariantGenerator
        return generator(random_state=seed, max_concurrent=max_concurrent)
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=int(content.get("startup_trials", 10))
    )
    searcher = OptunaSearch(space=Suggest(search), metric=metric, mode=mode, sampler=sampler)
    return (
        ConcurrencyLimiter(searcher, max_concurrent=max_concurrent) if max_concurrent else searcher
    )


def _suggest(trial: Any, name: str, space: Mapping[str, Any]) -> Any:
    kind, values = next(iter(space.items()))
    if kind == "choice":
        return trial.suggest_categorical(name, values)
    low, high = values
    return trial.suggest_float(name, low, high, log=kind == "loguniform" and low < high)
