"""A search space for plain Tune in which no draw puts `epsilon_high` under `epsilon_low`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

from ray.tune.search.sample import Categorical, Float, LogUniform, Uniform

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.setting import attribute_of, known_settings
from rllib_dapo.findings import SettingsError, suggest
from rllib_dapo.run.search.clip_bounds import check_bounds, join_bounds
from rllib_dapo.run.search.mutations import Mutations
from rllib_dapo.run.search.search_spaces import Space
from rllib_dapo.run.search.searchers import OptunaSpace

_WAY_OUT = "must be tune.grid_search, tune.choice, tune.uniform, tune.loguniform or a number"


class JointSpace:
    """Search spaces of several settings, of which both clip bounds are drawn together.

    ```python
    space = JointSpace(
        epsilon_low=tune.uniform(0.1, 0.3),
        epsilon_high=tune.uniform(0.2, 0.4),
        lr=tune.loguniform(1e-7, 1e-5),
    )
    # Grids and random search
    tune.Tuner("DAPO", param_space=config.update_from_dict(space.param_space()), ...)
    # Optuna
    OptunaSearch(space=space.for_optuna(), metric=..., mode=...)
    # Population based training, with the `param_space` above
    PopulationBasedTraining(
        hyperparam_mutations=space.hyperparam_mutations(), custom_explore_fn=space.explore, ...
    )
    ```

    Of two grids, only the pairs in the right order are tried. Otherwise one bound is drawn as its
    space says, and the other one from the part of its space that is on the right side of it.
    """

    def __init__(self, **spaces: Any) -> None:
        """Reads the spaces.

        Args:
            **spaces: By setting, under the name that it has as an attribute of `DAPOConfig`
                (`epsilon_low`, `lr`, `kl_coefficient`): one of Tune's `grid_search`, `choice`,
                `uniform` and `loguniform`, or a number that is not searched for.

        Raises:
            SettingsError: For an unknown setting, for another kind of space, and for spaces in
                which a bound may find no partner; one line.
        """
        has_grid = any(isinstance(space, Mapping) for space in spaces.values())
        self._search: dict[str, Space] = {
            _dotted_name(name): _read_space(name, space, fixed="grid" if has_grid else "choice")
            for name, space in spaces.items()
        }
        self._spaces = spaces
        check_bounds(self._search, type(self).__name__)

    def param_space(self) -> dict[str, Any]:
        """What Tune itself draws, by attribute: for `DAPOConfig.update_from_dict` or a plain dict.

        Where the bounds depend on each other, results also hold `config/epsilon_draw`, the draw
        that both follow from.
        """
        return {**self._spaces, **join_bounds(self._search)}

    def for_optuna(self) -> Callable[[Any], dict[str, Any]]:
        """What Optuna draws, as the define-by-run function that `OptunaSearch` takes.

        Raises:
            SettingsError: If there is a grid, since Optuna goes through none.
        """
        for name, space in self._spaces.items():
            if isinstance(space, Mapping):
                raise SettingsError(
                    f"JointSpace: Optuna draws values and does not go through a grid: write "
                    f"{name}=tune.choice({space['grid_search']!r})"
                )
        return OptunaSpace(self._search)

    def hyperparam_mutations(self) -> dict[str, Any]:
        """What population based training draws a setting from, by attribute."""
        return Mutations(self._search).distributions()

    def explore(self, config: dict[str, Any]) -> dict[str, Any]:
        """Moves perturbed values back into their spaces, and the upper bound over the lower one.

        Args:
            config: A trial's settings after Tune has perturbed them; changed in place.
        """
        return Mutations(self._search)(config)


def _dotted_name(attribute: str) -> str:
    known = {attribute_of(name, DAPOConfig): name for name in known_settings(DAPOConfig)}
    if attribute not in known:
        raise SettingsError(f"JointSpace: unknown setting {attribute!r}{suggest(attribute, known)}")
    return known[attribute]


def _read_space(name: str, space: Any, *, fixed: str) -> Space:
    """One of Tune's spaces as a run file would have it."""
    if isinstance(space, Real) and not isinstance(space, bool):
        return {fixed: [space]}
    if isinstance(space, Mapping) and list(space) == ["grid_search"]:
        return {"grid": list(space["grid_search"])}
    if isinstance(space, Categorical):
        return {"choice": list(space.categories)}

    if isinstance(space, Float):
        sampler = space.get_sampler()  # a quantized space has one that is neither of these
        kinds = {"loguniform": LogUniform, "uniform": Uniform}
        for kind, its_sampler in kinds.items():
            if isinstance(sampler, its_sampler):
                return {kind: [space.lower, space.upper]}

    raise SettingsError(f"JointSpace: {name}={space!r} {_WAY_OUT}")
