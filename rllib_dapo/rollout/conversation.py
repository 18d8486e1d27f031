"""One response in the making: what the policy said, and what an environment answered in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_dapo.core.types import FinishReason, Response, TurnRecord
from rllib_dapo.rollout.engine import Completion
from rllib_dapo.rollout.env_stepper import Answer

# Predictions travel to the driver with every summary; a longer one is a wrong answer however it
# ends.
_PREDICTION_CHARACTERS = 256


@dataclass(kw_only=True)
class Conversation:
    """The tokens after a prompt, as they come.

    Tokens are only ever added. What is sent to the engine for the next turn is what it sampled, as
    it sampled it, and the tokens of the environment's answer: no text is tokenized a second time,
    so the log-probabilities that came with the sampled tokens stay those of the sequence that is
    trained on.

    Attributes:
        episode: Its number among those under way.
        group: Which prompt of the rollout it answers.
        seed: The prompt's reset seed.
        index: Its place in the group.
        prompt_ids: `[P]`.
        said: The text of the last turn.
    """

    episode: int
    group: int
    seed: int
    index: int
    prompt_ids: Sequence[int]
    said: str = ""
    _token_ids: list[NDArray[np.int32]] = field(default_factory=list)
    _logprobs: list[NDArray[np.float32]] = field(default_factory=list)
    _is_sampled: list[bool] = field(default_factory=list)
    _turns: list[TurnRecord] = field(default_factory=list)
    _finish_reason: FinishReason = "stop"
    _info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """Tokens after the prompt."""
        return sum(map(len, self._token_ids))

    @property
    def num_turns(self) -> int:
        """How often the environment has answered."""
        return len(self._turns)

    @property
    def ended_itself(self) -> bool:
        """Whether the policy ended its last turn, rather than the limit."""
        return self._finish_reason == "stop"

    @property
    def token_ids(self) -> list[int]:
        """The prompt and everything after it."""
        return [*self.prompt_ids, *(token for piece in self._token_ids for token in piece.tolist())]

    def speak(self, completion: Completion, text: str) -> None:
        """Adds what the policy said."""
        self._add(completion.token_ids, completion.logprobs, is_sampled=True)
        self._finish_reason = completion.finish_reason
        self.said = text

    def hear(self, answer: Answer) -> None:
        """Notes what the environment said to it."""
        self._turns.append(
            TurnRecord(said=self.said, reward=answer.reward, observation=answer.observation)
        )
        self._info = answer.info

    def read(self, token_ids: Sequence[int]) -> None:
        """Adds an environment's tokens: no loss is taken on them, and nobody sampled them."""
        self._add(
            np.asarray(token_ids, np.int32), np.zeros(len(token_ids), np.float32), is_sampled=False
        )

    def cut_off(self) -> None:
        """Ends it for want of tokens or turns. Its reward is what it has, and what the environment takes for that."""
        self._finish_reason = "length"
        extra = float(self._info.get("reward_if_cut_off", 0.0))
        last = self._turns[-1]
        self._turns[-1] = TurnRecord(
            said=last.said, reward=last.reward + extra, observation=last.observation
        )

    def response(self) -> Response:
        """The finished response."""
        reward = sum(turn.reward for turn in self._turns)
        is_missing = not np.isfinite(reward)
        info, correct = self._info, self._info.get("is_correct")
        return Response(
            token_ids=np.concatenate(self._token_ids),
            loss_mask=np.repeat(self._is_sampled, [len(piece) for piece in self._token_ids]),
            logprobs=np.concatenate(self._logprobs),
            finish_reason=self._finish_reason,
            reward=float("nan") if is_missing else reward,
            is_correct=None if is_missing or correct is None else bool(correct),
            text="".join(turn.said + turn.observation for turn in self._turns),
            reason=str(info.get("missing_reason", f"the reward is {reward}")) if is_missing else "",
            prediction=str(info.get("prediction", ""))[:_PREDICTION_CHARACTERS],
            components={
                str(name): float(value) for name, value in info.get("reward_components", {}).items()
            },
            turns=tuple(self._turns),
        )

    def _add(
        self, token_ids: NDArray[np.int32], logprobs: NDArray[np.float32], *, is_sampled: bool
    ) -> None:
        self._token_ids.append(token_ids)
        self._logprobs.append(logprobs)
        self._is_sampled.append(is_sampled)
