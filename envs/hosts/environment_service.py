"""What runs in a child process that holds one environment."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import gymnasium

from rllib_dapo.envs.hosts.construction import construct
from rllib_dapo.envs.hosts.outcomes import BadOutcome, one_line, read_reset, read_step
from rllib_dapo.envs.messages import as_messages
from rllib_dapo.envs.processes.service import Service
from rllib_dapo.envs.shown_value import shown
from rllib_dapo.envs.tools import ModelTurn


class HostedConfig(dict[str, Any]):
    """Settings that know of the EnvRunner, as RLlib's `EnvContext` does, without loading Ray."""

    worker_index: int = 0
    vector_index: int = 0
    num_workers: int = 0
    remote: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How an environment is made in another process.

    Attributes:
        env: The specification of a registered environment, or what makes one.
        takes_mapping: Whether `env` is a function that takes all settings as one mapping, as those
            that are registered with Tune do.
        config: The settings.
        context: What RLlib's `EnvContext` says beside them: `worker_index` and others.
    """

    env: Any
    takes_mapping: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, int] = field(default_factory=dict)

    def make(self) -> gymnasium.Env[Any, Any]:
        """Makes the environment.

        Raises:
            Exception: Whatever the environment raises.
        """
        if isinstance(self.env, str | gymnasium.envs.registration.EnvSpec):
            return gymnasium.make(self.env, **self.config)

        config = HostedConfig(self.config)
        vars(config).update(self.context)
        if self.takes_mapping:
            made: gymnasium.Env[Any, Any] = self.env(config)
            return made
        return construct(self.env, config)

    def sent(self) -> str:
        """Returns the recipe in the form in which it travels.

        Raises:
            ValueError: If it cannot be sent to another process; one line.
        """
        import cloudpickle

        # What pickling raises is as open as what a user's object holds.
        try:
            return base64.b64encode(cloudpickle.dumps(self)).decode()
        except Exception as error:
            raise ValueError(
                f"{shown(self.env)} cannot be sent to another process: {type(error).__name__}: "
                f"{one_line(str(error))}"
            ) from error


class EnvironmentService(Service):
    """Holds an environment: `load` makes it, and calls are `[method, arguments by name]`.

    What goes back is read by `outcomes` here already, where the environment's own objects are, so
    that it is made of JSON.
    """

    def __init__(self) -> None:
        # As a whole, for its environments must be registered in this process too.
        from rllib_dapo.envs import register_environments

        register_environments()
        self._env: gymnasium.Env[Any, Any] | None = None

    def load(self, content: Any) -> Any:
        """Makes the environment of a pickled `Recipe`.

        Returns:
            None; or where it cannot be made, the kind of the error and its message.
        """
        # Pickled by whoever started this process: no text of a model has been near it.
        try:
            recipe: Recipe = pickle.loads(base64.b64decode(content))
            self._env = recipe.make()
        except MemoryError:
            raise
        except Exception as error:
            return {"kind": type(error).__name__, "message": one_line(str(error))}
        return None

    def call(self, content: Any) -> Any:
        """Calls a method of the environment.

        Returns:
            What it returned, or `{"bad": what is wrong with that}`.
        """
        method, arguments = content
        calls: Mapping[str, Callable[..., Any]] = {
            "reset": self._reset,
            "step": self._step,
            "close": self._close,
        }
        try:
            return calls[method](**arguments)
        except BadOutcome as fault:
            return {"bad": str(fault)}

    def _reset(self, seed: int | None, options: Any = None) -> dict[str, Any]:
        assert self._env is not None
        outcome = read_reset(self._env.reset(seed=seed, options=options))
        prompt = outcome.prompt
        return {
            "prompt": prompt if isinstance(prompt, str) else as_messages(prompt),
            "answer": outcome.answer,
            "tools": list(outcome.tools),
            "max_turns": outcome.max_turns,
        }

    def _step(self, text: str | Mapping[str, Any]) -> dict[str, Any]:
        assert self._env is not None
        action = text if isinstance(text, str) else ModelTurn.from_json(text)
        return asdict(read_step(self._env.step(action)))

    def _close(self) -> None:
        assert self._env is not None
        self._env.close()  # type: ignore[no-untyped-call]  # Gymnasium's
