"""Turns of engines and Learners on the devices that they share (`rollout.colocate`).

| | engines | Learners |
| --- | --- | --- |
| sampling | awake | weights alone; all else rests in main memory |
| training | asleep: neither weights nor cache | everything |
| handing over | awake but for the cache | weights alone |

From sampling to training and back to sampling, the order of calls is that of `to_learners` and then
of `handing_over`, below. Engines are given weights whenever they wake, so they keep none while they
sleep. Whatever has failed in between, the next hand-over begins from any state: who rests already,
or is awake, stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_dapo.weight_transfer.both_sides import ask_both_sides

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.learner.learner import DAPOTorchLearner
    from rllib_dapo.rollout.engine import Engine
    from rllib_dapo.rollout.env_runner import TextEnvRunner


class DeviceTurns:
    """Says when engines sleep and Learners rest; nothing at all without `rollout.colocate`.

    Attributes:
        engines_sleep: Whether engines wait for weights: a turn of the Learners has begun, and no
            hand-over has come to its end since.
    """

    def __init__(
        self, learner_group: LearnerGroup, env_runner_group: EnvRunnerGroup, config: DAPOConfig
    ) -> None:
        """Nobody is asked for anything yet.

        Args:
            learner_group: The Learners.
            env_runner_group: The EnvRunners, whose engines are awake when they are new.
            config: The algorithm's configuration.
        """
        self._learner_group = learner_group
        self._env_runner_group = env_runner_group
        self._config = config
        self.engines_sleep = False

    def to_learners(self) -> None:
        """From the engines' turn to the Learners'. It ends with a hand-over of weights.

        Raises:
            RuntimeError: If a side does not do its part in time; one line.
        """
        if not self._config.colocate:
            return

        self.engines_sleep = True  # whatever fails from here on, they need weights first
        self._ask_engines(lambda engine: engine.sleep(), "putting engines to sleep")
        self._ask_learners(lambda learner: learner.resume(), "the beginning of the Learners' turn")

    @contextmanager
    def handing_over(self) -> Iterator[None]:
        """From any state to the engines' turn, if what is done inside gives them their weights.

        Raises:
            RuntimeError: If a side does not do its part in time; one line.
        """
        if not self._config.colocate:
            yield
            return

        self._ask_learners(lambda learner: learner.rest(), "the end of the Learners' turn")
        self._ask_engines(lambda engine: engine.wake("weights"), "waking engines for weights")
        yield
        # Of the weights' buckets, before the cache takes all that is left.
        self._ask_learners(lambda learner: learner.give_memory_back(), "the end of a hand-over")
        self._ask_engines(lambda engine: engine.wake("kv_cache"), "waking engines")
        self.engines_sleep = False

    def end_with(self, hand_over: Callable[[], None]) -> None:
        """Ends a turn of the Learners that nobody has ended, as where something in it has failed.

        Args:
            hand_over: Gives engines their weights, with `handing_over`.
        """
        if self.engines_sleep:
            hand_over()

    def _ask_engines(self, question: Callable[[Engine], None], what: str) -> None:
        def ask(runner: TextEnvRunner) -> None:
            question(runner.module[DEFAULT_MODULE_ID].engine)

        healthy = sorted(self._env_runner_group.healthy_env_runner_ids())
        self._ask(of_learner=None, of_runner=ask, runners=healthy, what=what)

    def _ask_learners(self, question: Callable[[DAPOTorchLearner], None], what: str) -> None:
        self._ask(of_learner=question, runners=[], what=what)

    def _ask(self, **question: Any) -> None:
        ask_both_sides(
            self._learner_group,
            self._env_runner_group,
            timeout_seconds=self._config.weight_sync_timeout_s,
            deaths_end_it=not self._config.restart_failed_env_runners,
            **question,
        )
