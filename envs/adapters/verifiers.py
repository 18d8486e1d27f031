"""Environments of the hub verifiers: packages with a taskset."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from rllib_dapo.envs.adapters.hub import HubEnv, cannot_make, import_hub
from rllib_dapo.envs.env_settings import check_integer
from rllib_dapo.envs.hosts.outcomes import one_line
from rllib_dapo.envs.messages import Conversation
from rllib_dapo.envs.splits import DatasetOrder
from rllib_dapo.envs.turns import Turn

if TYPE_CHECKING:
    from rllib_dapo.envs.adapters.verifiers_seat import Exchange, Seat

_INSTALL = (
    "pip install -e '.[hubs]' in a checkout, then "
    "pip install --no-deps verifiers==0.4.0 renderers==0.1.12"
)


class VerifiersEnv(HubEnv):
    """The tasks of a taskset, led and scored by its environment.

    Each reset seed is a task, in epochs without repetition. The environment's own program leads the
    conversation, and the task's own asynchronous rewards score it at its end: the reward is their
    weighted sum, and `info["reward_components"]` has each one. Judges that a task
    asks by HTTP are asked. What needs verifiers' sandboxes, tools or a second agent is refused.

    Settings, with their defaults, beside those of `HubEnv`:
        task: Id of the taskset, such as "gsm8k_v1" or "owner/name": the package must be installed.
        arguments: {}; the settings of the taskset.
        environment: {}; further settings of the environment, such as its `id`.
        seed: 0; the order of the tasks.
        limit: None; only this many tasks, the first ones. A taskset without end needs it.

    Raises:
        ValueError: If a setting is refused, or the environment is one that cannot run here.
    """

    default_settings: ClassVar[Mapping[str, Any]] = {
        **HubEnv.default_settings,
        "environment": None,
        "seed": 0,
        "limit": None,
    }

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        seed = check_integer("seed", self.settings["seed"], low=0)
        limit = self.settings["limit"]
        limit = None if limit is None else check_integer("limit", limit, low=1)
        environment = self.settings["environment"] or {}
        if not isinstance(environment, Mapping) or "taskset" in environment:
            raise ValueError(
                f"environment={environment!r}: must be a mapping from setting names to values, "
                "and the taskset's own settings are `arguments`"
            )

        import_hub("verifiers.v1", install=_INSTALL)
        described = {**environment, "taskset": {**self.arguments, "id": self.task}}
        self._env = _load(self.task, described)
        self._role = _only_role(self.task, self._env)
        self._tasks = _tasks_of(self.task, self._env.taskset, limit)
        _refuse_what_needs_more(self.task, self._env, self._tasks[0])
        self._order = DatasetOrder(size=len(self._tasks), seed=seed)

        from rllib_dapo.envs.adapters.verifiers_seat import Exchange

        self._exchange: Exchange = Exchange()
        try:
            self._exchange.loop.run_until_complete(self._env.start())
        except Exception as error:
            raise cannot_make(self.task, error) from error
        self._seat: Seat | None = None

    def begin(self, seed: int) -> Conversation:
        """Has the environment open its conversation on the task of a seed.

        Raises:
            ValueError: If it ends without having asked anything.
        """
        task = self._tasks[self._order(seed)]
        self._exchange.begin(self._play(task))
        if self._exchange.asked is None:
            raise ValueError(f"task={self.task!r}: the environment asked nothing")
        return self._exchange.asked

    def turn(self, response: str) -> Turn:
        """Hands a response to the environment.

        Where no turn is left it is told that the conversation is over, so that it can score it.
        """
        self._exchange.answer(response)
        if self._exchange.asked is not None and self._turns_left == 1:
            self._exchange.answer(None)
        if self._exchange.asked is not None:
            return Turn(observation=self._exchange.asked, reward=0.0, done=False)
        return self._outcome()

    def close(self) -> None:
        """Ends the conversation that is under way, and what the environment has started."""
        self._exchange.abandon()
        self._exchange.loop.run_until_complete(self._env.stop())
        self._exchange.close()
        super().close()  # type: ignore[no-untyped-call]  # Gymnasium's

    async def _play(self, task: Any) -> None:
        """One episode, as `verifiers.v1.Env.run_episode` has it."""
        import verifiers.v1 as vf

        from rllib_dapo.envs.adapters.verifiers_seat import Seat

        self._seat = seat = Seat(getattr(self._env.config, self._role), self._exchange)
        agents = vf.Agents(self._env.config, lambda name, config: seat)
        await self._env.setup(agents)
        await self._env.run(task, agents)

        described = vf.TraceTask(type=type(task).__name__, data=task.data)
        episode = vf.Episode(task=described, traces=[] if seat.trace is None else [seat.trace])
        await self._env.finalize(task, episode)

    def _outcome(self) -> Turn:
        from rllib_dapo.envs.adapters.verifiers_seat import missing_scores

        assert self._seat is not None
        trace = self._seat.trace
        reason = missing_scores(trace)
        if reason:
            return Turn(reason=reason)
        parts = {name: reward.value for name, reward in trace.rewards.items()}
        return Turn(reward=sum(parts.values()), info={"reward_components": parts})


def _load(task: str, described: Mapping[str, Any]) -> Any:
    """Makes the environment of a taskset."""
    import verifiers.v1 as vf
    from pydantic import ValidationError

    # A package of the hub may raise anything.
    try:
        return vf.load_environment(vf.resolve_env_config(dict(described)))
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
        )
        raise ValueError(f"task={task!r}: it refuses its settings: {one_line(told)}") from error
    except Exception as error:
        if _is_for_older_verifiers(task, error):
            raise ValueError(
                f"task={task!r}: the package is written for verifiers before 0.2 "
                "(load_environment); 0.4 runs packages that export a Taskset"
            ) from error
        raise cannot_make(task, error) from error


def _is_for_older_verifiers(task: str, error: Exception) -> bool:
    told = one_line(str(error))
    module = sys.modules.get(task.rpartition("/")[2].partition("@")[0].replace("-", "_").lower())
    return hasattr(module, "load_environment") or "module 'verifiers' has no attribute" in told


def _only_role(task: str, env: Any) -> str:
    """Returns the name of the one agent of an environment."""
    from verifiers.v1.configs.agent import agent_config_fields

    roles = list(agent_config_fields(env.config))
    if len(roles) != 1:
        raise ValueError(
            f"task={task!r}: the environment wants several agents ({', '.join(roles)}), and one "
            "policy is trained here"
        )
    return str(roles[0])


def _tasks_of(task: str, taskset: Any, limit: int | None) -> list[Any]:
    if limit is None and not taskset.bounded:
        raise ValueError(f"task={task!r}: the taskset has no end; say how much of it: limit: 1000")
    try:
        tasks = list(taskset if limit is None else taskset.take(limit))
    except Exception as error:
        raise cannot_make(task, error) from error
    if not tasks:
        raise ValueError(f"task={task!r}: the taskset has no task")
    return tasks


def _refuse_what_needs_more(task: str, env: Any, first: Any) -> None:
    """Refuses what a conversation alone cannot give, as far as the first task shows it.

    Raises:
        ValueError: One line that says what is wanted.
    """
    from verifiers.v1.utils.decorators import discover_decorated

    def needs_sandbox(function: Any) -> bool:
        runtime = inspect.signature(function).parameters.get("runtime")
        return runtime is not None and runtime.default is runtime.empty

    scores = [*first.hooks("metric"), *first.hooks("reward")]
    scored_there = [function.__name__ for function in scores if needs_sandbox(function)]
    wants = {
        "a container": first.NEEDS_CONTAINER or first.data.image,
        "tools": env.taskset.toolsets(env.taskset.config) or first.toolsets(first.config),
        f"a sandbox to score in ({', '.join(scored_there)})": scored_there,
        "to intercept requests to a model": discover_decorated(first, "intercept"),
        "to intercept requests to a model (stop)": _stops_on_requests(first),
    }
    wanted = [name for name, value in wants.items() if value]
    if wanted:
        raise ValueError(
            f"task={task!r}: the environment wants {wanted[0]}, which this adapter does not have: "
            "it gives the policy the task's messages and nothing else"
        )


def _stops_on_requests(first: Any) -> bool:
    from verifiers.v1.session import hook_boundary
    from verifiers.v1.trace import Trace

    return any(hook_boundary(stop, allow_trace=True) is not Trace for stop in first.hooks("stop"))
