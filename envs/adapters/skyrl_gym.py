"""Environments of the hub skyrl-gym, which judge the problems of another environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rllib_dapo.envs.adapters.hub import HubEnv, cannot_make, import_hub, refuse_unknown_task
from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.messages import Conversation, as_conversation, as_messages
from rllib_dapo.envs.single_step_env import make_single_step_env
from rllib_dapo.envs.turns import Turn
from rllib_dapo.envs.verify import MissingReason

_INSTALL = "pip install -e '.[hubs]' in a checkout"
_RUN_CODE = ("lcb", "searchcode", "text2sql")


class SkyRLGymEnv(HubEnv):
    """An environment of skyrl-gym, made anew for each problem.

    skyrl-gym brings judges and no problems: these come from another environment, whose prompt and
    answer it is given (`extras["reward_spec"]["ground_truth"]`, and the same in `reward_model`).
    Of an episode's reward each step gives its part, as skyrl-gym does.

    Settings, with their defaults, beside those of `HubEnv`:
        task: An id that `skyrl_gym.make` knows, such as "gsm8k" or "gsm8k_multi_turn".
        arguments: {}; the environment's `env_config`.
        problems: "rllib_dapo/Math-v0"; the environment that poses the problems, a
            `SingleStepTextEnv`.
        problem_config: {}; its settings, such as `path`.
        max_turns: 16; what the environment is told, where it has such a limit, too.

    Raises:
        ValueError: If a setting is refused, by this environment or by that of the problems, or if
            the environment would run what the model writes.
    """

    default_settings: ClassVar[Mapping[str, Any]] = {
        **HubEnv.default_settings,
        "problems": "rllib_dapo/Math-v0",
        "problem_config": None,
    }

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self._skyrl_gym = skyrl_gym = import_hub("skyrl_gym", install=_INSTALL)
        refuse_unknown_task(self.task, skyrl_gym.registry)
        if self.task in _RUN_CODE:
            raise ValueError(
                f"task={self.task!r}: it runs the programs that the model writes, which is not "
                "done here"
            )

        self._problems = make_single_step_env(
            self.settings["problems"], self.settings["problem_config"]
        )
        self._env: Any = None
        # A hub's maker may raise anything, and should do so before training.
        try:
            self._make(self._problems.problem(0))
        except Exception as error:
            raise cannot_make(self.task, error) from error

    def begin(self, seed: int) -> Conversation:
        """Hands the problem of a seed to an environment, which may change its prompt."""
        problem = self._problems.problem(seed)
        self._env = self._make(problem)
        messages, _ = self._env.init(as_messages(as_conversation(problem.prompt)))
        return as_conversation(messages)

    def turn(self, response: str) -> Turn:
        """Has the response judged."""
        result = self._env.step(response)
        changed = result.get("postprocessed_action")
        if changed is not None and changed != response:
            # What was sampled is trained on, and cannot be exchanged for something else.
            return Turn(
                reason=f"{MissingReason.CRASH}: {self.task} puts other words in place of the "
                "response that was sampled"
            )
        observations = result["observations"]
        return Turn(
            observation=as_conversation(observations) if observations else "",
            reward=result["reward"],
            done=bool(result["done"]),
        )

    def close(self) -> None:
        """Closes the environment and that of the problems."""
        if self._env is not None:
            self._env.close()
        self._problems.close()
        super().close()  # type: ignore[no-untyped-call]  # Gymnasium's

    def _make(self, problem: Problem) -> Any:
        from omegaconf import OmegaConf  # skyrl-gym's own kind of settings

        truth = {"method": "rule", "ground_truth": problem.answer}
        turns = self.settings["max_turns"]
        extras = {
            "reward_spec": truth,
            "reward_model": truth,
            "max_turns": turns,
            "extra_info": {"max_turns": turns},
        }
        return self._skyrl_gym.make(
            self.task, env_config=OmegaConf.create(self.arguments), extras=extras
        )
