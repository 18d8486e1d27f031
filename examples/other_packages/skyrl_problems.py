"""Problems for an environment of skyrl-gym (`pip install skyrl-gym`), such as its `gsm8k`.

    rllib-dapo check-env skyrl_problems:SkyRLProblems
    rllib-dapo train games.yaml --set environment.env=skyrl_problems:SkyRLProblems

Run both in this folder. Such an environment judges; the problems come with the data set, here from
a few lines of sums. Yours are read in `problem`: from a file of the form that SkyRL trains on, a
row has a `prompt` (messages) and a `reward_spec` with the `ground_truth`.
"""

from __future__ import annotations

import random
from typing import Any, ClassVar

import skyrl_gym

from rllib_dapo.envs import Turn, TurnsEnv
from rllib_dapo.envs.messages import Conversation, as_conversation


class SkyRLProblems(TurnsEnv):
    """An environment of skyrl-gym, which is made anew for each problem.

    Settings, with their defaults:
        env_id: gsm8k; an id that `skyrl_gym.make` knows, such as gsm8k_multi_turn.
        max_turns: 4; the episode is cut off after this many responses.
        success_at: 1.0; the last reward from which it is a success.
    """

    default_settings: ClassVar[dict[str, Any]] = {
        "env_id": "gsm8k",
        "max_turns": 4,
        "success_at": 1.0,
    }

    def begin(self, seed: int) -> Conversation:
        """Hands the problem of a seed to an environment, which may change its prompt."""
        row = self.problem(seed)
        extras = {"reward_spec": row["reward_spec"], "max_turns": self.settings["max_turns"]}
        self._env = skyrl_gym.make(self.settings["env_id"], env_config={}, extras=extras)
        messages, _ = self._env.init(row["prompt"])
        return as_conversation(messages)

    def problem(self, seed: int) -> dict[str, Any]:
        """Returns the row of a seed."""
        draw = random.Random(seed)
        first, second = draw.randint(0, 49), draw.randint(0, 49)
        question = f"{first}+{second}? Write the answer after ####.\n"
        return {
            "prompt": [{"role": "user", "content": question}],
            "reward_spec": {"method": "rule", "ground_truth": str(first + second)},
        }

    def turn(self, response: str) -> Turn:
        """Has the response judged."""
        result = self._env.step(response)
        observations = result["observations"]
        return Turn(
            observation=as_conversation(observations) if observations else "",
            reward=float(result["reward"]),
            done=bool(result["done"]),
        )
