"""Several environments as one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium

from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.env_settings import merge_settings
from rllib_dapo.envs.hosts.construction import construct
from rllib_dapo.envs.hosts.environment_service import HostedConfig, Recipe
from rllib_dapo.envs.hosts.host_settings import take_host_settings
from rllib_dapo.envs.hosts.hosted_env import HostedEnv
from rllib_dapo.envs.hosts.outcomes import one_line
from rllib_dapo.envs.mixture import MixturePart, read_mixture
from rllib_dapo.envs.row_counts import DataReport
from rllib_dapo.envs.spaces import TextSpace

_SEED_BOUND = 2**31  # what an unseeded reset draws from
_MAX_CHARACTERS = 1_000_000


class MixtureEnv(gymnasium.Env[Any, str]):
    """Asks the problems of several environments, in proportion to their weights.

    A reset seed says which environment it is, and which of its problems; see `Mixture`. The
    environments are made at the first reset. `info["environment"]` has the name.

    Settings:
        environments: A list of mappings: `env` and `env_config` as in a run file; `weight` (1), any
            positive number; `name`, for metrics, by default the id without its version. Each may
            say in its own `env_config` where it runs (`verify_in`).

    Attributes:
        mixture: What was read of them.

    Args:
        config: Settings by name; what RLlib hands to an environment class.
        **kwargs: Settings by name; what `gymnasium.make` hands over. They win over `config`.

    Raises:
        ValueError: If a setting is refused.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own annotation)
    # Its parts have settings of where they run; it has none.
    hosts_parts: ClassVar[bool] = True

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        given = {**(config or {}), **kwargs}
        settings = merge_settings(type(self).__name__, {"environments": None}, given)
        self.mixture = read_mixture(settings["environments"])
        self.observation_space = TextSpace(_MAX_CHARACTERS)
        self.action_space = TextSpace(_MAX_CHARACTERS)
        self._envs: list[gymnasium.Env[Any, Any]] = []
        self._index = 0

    @property
    def envs(self) -> Sequence[gymnasium.Env[Any, Any]]:
        """The environments, which are made when they are first asked for.

        Raises:
            ValueError: If one cannot be made; one line with its entry.
        """
        if not self._envs:
            made: list[gymnasium.Env[Any, Any]] = []
            for part in self.mixture.parts:
                # A user's environment may raise anything.
                try:
                    made.append(make_part(part))
                except Exception as error:
                    _close_all(made)
                    raise part_refusal(part, error) from error
            self._envs = made
        return self._envs

    def use(self, envs: Sequence[gymnasium.Env[Any, Any]]) -> None:
        """Takes environments that somebody else makes and closes, in the order of the parts.

        Only what they tell of their problems is asked of them.
        """
        self._envs = list(envs)

    @property
    def problems(self) -> tuple[Problem, ...] | None:
        """The problems of all environments; None if one of them has no list of its own."""
        lists = [getattr(env.unwrapped, "problems", None) for env in self.envs]
        listed = [list(one) for one in lists if isinstance(one, list | tuple)]
        if len(listed) < len(lists):
            return None
        return tuple(problem for one in listed for problem in one)

    @property
    def data_report(self) -> DataReport | None:
        """What the environments have read, in one report; None if none reads files."""
        reports = [getattr(env.unwrapped, "data_report", None) for env in self.envs]
        read = [one for one in reports if isinstance(one, DataReport)]
        if not read:
            return None
        return DataReport(
            sources=tuple(source for one in read for source in one.sources),
            problems=sum(one.problems for one in read),
            findings=tuple(finding for one in read for finding in one.findings),
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets the environment of a seed with that environment's own seed.

        Returns:
            Its prompt and info, with the name as `info["environment"]`.
        """
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(_SEED_BOUND))
        self._index, visit = self.mixture.place(seed)
        prompt, info = self.envs[self._index].reset(seed=visit, options=options)
        return prompt, {**info, "environment": self._name}

    def step(self, action: str) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps the environment that was reset."""
        observation, reward, terminated, truncated, info = self.envs[self._index].step(action)
        return observation, reward, terminated, truncated, {**info, "environment": self._name}

    def close(self) -> None:
        """Closes all environments."""
        envs, self._envs = self._envs, []
        _close_all(envs)

    @property
    def _name(self) -> str:
        return self.mixture.parts[self._index].name


def make_part(part: MixturePart) -> gymnasium.Env[Any, Any]:
    """Makes an environment of a mixture, in a process of its own if its settings say so.

    Raises:
        Exception: Whatever the environment raises; see `part_refusal`.
    """
    settings, own = take_host_settings(part.env, part.env_config)
    if settings is not None:
        env = gymnasium.spec(part.env) if isinstance(part.env, str) else part.env
        return HostedEnv(Recipe(env=env, config=own), settings)
    if isinstance(part.env, str):
        return gymnasium.make(part.env, **own)
    return construct(part.env, HostedConfig(own))


def part_refusal(part: MixturePart, error: Exception) -> ValueError:
    """Returns why an environment of a mixture cannot be made, in one line with its entry."""
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return ValueError(f"{part.setting} ({part.name}): {kind}{one_line(str(error))}")


def _close_all(envs: Sequence[gymnasium.Env[Any, Any]]) -> None:
    # One that raises does not stop the others from being closed.
    with contextlib.ExitStack() as stack:
        for env in envs:
            stack.callback(env.close)
