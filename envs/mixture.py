"""Which environment of a mixture a reset seed belongs to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import gymnasium

from rllib_dapo.envs.adapters.references import resolve_reference
from rllib_dapo.envs.env_settings import check_choice, is_finite_number
from rllib_dapo.envs.mixing import share_and_visit
from rllib_dapo.envs.shown_value import shown

MIXTURE = "rllib_dapo/Mixture-v0"

_OPTIONS = ("env", "env_config", "weight", "name")
# Part of the names of metrics, where a slash would begin another level.
_NAME = re.compile(r"[\w.+-]+", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class MixturePart:
    """An environment of a mixture.

    Attributes:
        setting: How its entry is called in messages, such as "environments[0]".
        name: Its name, for metrics.
        env: What makes it: the id of a registered environment, or a class or function.
        env_config: Its settings.
        weight: Its share of the prompts, beside those of the others.
    """

    setting: str
    name: str
    env: Any
    env_config: Mapping[str, Any] = field(default_factory=dict)
    weight: Fraction = Fraction(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """The environments of a mixture, visited in proportion to their weights.

    Nothing is drawn at random: of the seeds 0 to n - 1, an environment of share `w` gets `n * w`,
    give or take less than the number of environments, and its own seeds are 0, 1, 2, ... without a
    gap. So each keeps the epochs of its own data, whatever the others do. Where the weights are
    whole numbers, every stretch of seeds that begins at a multiple of their sum and is as long as
    it has each share exactly.

    Attributes:
        parts: The environments, at least one.
    """

    parts: tuple[MixturePart, ...]

    def place(self, seed: int) -> tuple[int, int]:
        """Returns the number of the environment of a seed, and that environment's own seed."""
        return share_and_visit(seed, [part.weight for part in self.parts])

    def name_of(self, seed: int) -> str:
        """Returns the name of the environment of a seed."""
        return self.parts[self.place(seed)[0]].name


def environment_names(env: Any, env_config: Mapping[str, Any]) -> Callable[[int], str] | None:
    """Returns what names the environment of a seed; None where there is only one.

    Args:
        env: The setting `environment.env`: an id or a class.
        env_config: Its settings.
    """
    if env != MIXTURE and not getattr(env, "hosts_parts", False):
        return None
    return read_mixture(env_config.get("environments")).name_of


def read_mixture(given: Any) -> Mixture:
    """Reads the setting `environments`.

    Args:
        given: A list of mappings with `env`, and perhaps `env_config`, `weight` and `name`.

    Raises:
        ValueError: If an entry is refused; one line.
    """
    if not isinstance(given, list | tuple) or not given:
        raise ValueError(
            f"environments={shown(given)}: must be a list of mappings with env, and perhaps "
            "env_config, weight and name"
        )

    # As a whole: the environments must be registered in child processes, too.
    from rllib_dapo.envs import register_environments

    register_environments()
    parts = tuple(_part(f"environments[{i}]", one) for i, one in enumerate(given))

    names = [part.name for part in parts]
    for part in parts:
        if names.count(part.name) > 1:
            raise ValueError(
                f"{part.setting}: another environment of the mixture is called {part.name}, too; "
                "give each a name of its own"
            )
    return Mixture(parts=parts)


def _part(setting: str, given: Any) -> MixturePart:
    if not isinstance(given, Mapping):
        raise ValueError(f"{setting}={shown(given)}: must be a mapping with env")
    for option in given:
        check_choice(f"{setting}: the option", option, _OPTIONS)

    weight = given.get("weight", 1)
    if not is_finite_number(weight) or weight <= 0:
        raise ValueError(f"{setting}.weight={weight!r}: must be a number above 0")
    env_config = given.get("env_config") or {}
    if not isinstance(env_config, Mapping):
        raise ValueError(f"{setting}.env_config={shown(env_config)}: must be a mapping of settings")
    env = _found(f"{setting}.env", given.get("env"))
    name = given.get("name") or _default_name(env)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{setting}.name={name!r}: must be made of letters, digits and . _ + -")

    # By way of the text: 0.1 means a tenth, not the nearest binary fraction.
    return MixturePart(
        setting=setting,
        name=name,
        env=env,
        env_config=dict(env_config),
        weight=Fraction(str(weight)),
    )


def _found(setting: str, env: Any) -> Any:
    """Returns what an entry's `env` names."""
    if env == MIXTURE:
        raise ValueError(f"{setting}={env!r}: a mixture cannot be part of a mixture")
    if callable(env) or env in gymnasium.registry:
        return env
    if isinstance(env, str) and ":" in env:
        return resolve_reference(setting, env)
    known = [name for name in gymnasium.registry if name.startswith("rllib_dapo/")]
    check_choice(f"{setting} (or module:Class)", env, known)
    return env


def _default_name(env: Any) -> str:
    """Returns the last part of an id without its version, or the name of a class."""
    name = env if isinstance(env, str) else str(getattr(env, "__name__", ""))
    return re.sub(r"-v\d+$", "", name.rpartition("/")[2])
